# %% [markdown]
# # Chapter 5: memory, and gradients that survive it
#
# Chapter 2 sends a gradient backwards through the layers of a network. On this way every layer multiplies it, and a
# long product of numbers has two habits: it vanishes, or it explodes. This chapter looks at that first in deep
# networks (5.1) and then through time, where each instant of a sequence is one more layer. The LSTM (5.2) is a
# recurrent network built around the problem: it has a memory to which things are added, and in which a gradient can
# stay alive.
#
# The pieces are `jnn.rnn` and `jnn.lstm`. Both come with backpropagation through time derived by hand, as in
# [chapter 2](chapter_2.ipynb). [Chapter 1](chapter_1.ipynb) says how to run these notebooks.

# %%
# In a hosted notebook the project is fetched first, which takes a minute; in a checkout it lies in the folder above.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("experiments") is None:
    project = Path.cwd().parent
    if not (project / "experiments" / "__init__.py").exists():
        project = Path("jnn-project").resolve()
        if not project.exists():
            address = os.environ.get("JNN_REPOSITORY") or input("The git address, or folder, of the jnn project: ")
            subprocess.run(["git", "clone", "--depth", "1", address, str(project)], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"{project}[notebooks]"], check=True)
    sys.path.insert(0, str(project))

# %matplotlib inline

# %%
import codecs
import contextlib
import inspect
import io
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from experiments import runner
from experiments.chapter_5 import counting, fig_5_1_tanh, gradient_through_time, vanishing_gradient
from jnn import activations, gradcheck, gradient_flow, language, lstm, mlp, rnn, train

# %% [markdown]
# ## 5.1 Vanishing and exploding gradients
#
# Stochastic gradient descent changes a weight by
#
# $$w^{\text{new}} = w^{\text{old}} - \eta\, \frac{\partial L}{\partial w},$$
#
# which does nothing where the derivative is tiny, and harm where it is huge. To see where such derivatives come from,
# the notes take a network without biases or activations: $L - 1$ layers of two neurons, each with its own weight from
# the one before, and a last neuron that adds the two.
#
# $$W^{(i)} = \begin{pmatrix} w_{11}^{(i)} & 0 \\ 0 & w_{22}^{(i)} \end{pmatrix} \ (i < L), \qquad
# W^{(L)} = \big(w_{11}^{(L)},\, w_{12}^{(L)}\big)$$
#
# Its output is two products, one for each input:
#
# $$\hat y = w_{11}^{(L)} w_{11}^{(L-1)} \cdots w_{11}^{(2)} w_{11}^{(1)}\, x_1 +
#   w_{12}^{(L)} w_{22}^{(L-1)} \cdots w_{22}^{(2)} w_{22}^{(1)}\, x_2 .$$
#
# (In the second product the notes print $w_{11}^{(2)}$ where $w_{22}^{(2)}$ belongs.) With the loss
# $(y - \hat y)^2 / 2$ the derivative by a weight is the error times the input times *all the other* weights of its
# product:
#
# $$\frac{\partial L}{\partial w_{11}^{(1)}} = (\hat y - y)\, w_{11}^{(L)} w_{11}^{(L-1)} \cdots w_{11}^{(2)}\, x_1 .$$
#
# `gradient_flow.chain` is the network and `gradient_flow.chain_gradient` this formula, for every weight at once. Here
# it is against autodiff and against finite differences, for six layers of random weights:

# %%
x, y = jnp.array([0.6, 0.8]), jnp.array(1.0)
weights = jax.random.uniform(jax.random.key(0), (6, 2), minval=0.5, maxval=1.5)
report = gradcheck.compare(
    lambda w, x, y: (y - gradient_flow.chain(w, x)) ** 2 / 2, gradient_flow.chain_gradient, weights, x, y
)
print(report)
assert report.ok

# %% [markdown]
# Now a hundred layers, all of whose weights are 0.9, 1 or 1.1. Nothing in these numbers looks dangerous, but $0.9^{99}$
# is 0.00003 and $1.1^{99}$ is 12,528, and with 1.1 the error $\hat y - y$ explodes as well:

# %%
for w in (0.9, 1.0, 1.1):
    by_first = gradient_flow.chain_gradient(jnp.full((100, 2), w), x, y)[0, 0]
    print(f"w = {w}: the output is {gradient_flow.chain(jnp.full((100, 2), w), x):.3g}, dL/dw_11^(1) is {by_first:.3g}")

# %% [markdown]
# It does not matter by which weight we differentiate: each product leaves out just one.
#
# Real networks have activations between their layers, and on the way back each layer multiplies by $w^T$ and by the
# derivative of its activation. Below, the upper left is the chain; the others are networks of 30 layers whose random
# weights are small ($g = 0.5$), ordinary ($g = 1$) and large ($g = 2$). Read them from right to left, as the gradient
# goes: from the last layer back to the input. (Relu, $\max(z, 0)$, is not in the notes. Its derivative is 1 or 0, at
# random weights equally often.)

# %%
figure, arrays = runner.show(vanishing_gradient)
figure

# %% [markdown]
# ### Exercise 5.1: would another activation help?
#
# The sigmoid's derivative is at most 1/4, and this at $z = 0$. So every layer of sigmoids makes a gradient smaller,
# unless its weights are large. With an activation whose derivative at 0 is larger, the gradient shrinks more slowly;
# with one above 1 it might explode. The candidate of the notes is
#
# $$\tanh(z) = \frac{e^z - e^{-z}}{e^z + e^{-z}}, \qquad \tanh'(z) = 1 - \tanh(z)^2 .$$
#
# They hope for a derivative at 0 that is higher, "but less than 1". That of tanh is exactly 1:

# %%
for f in (activations.sigmoid, activations.tanh):
    print(f"{f.name}: f'(0) = {f.prime(0.0)} by formula, {jax.grad(f)(0.0)} by autodiff")
    assert f.prime(0.0) == jax.grad(f)(0.0)

# %% [markdown]
# **Figure 5.1.** Both functions and their derivatives. They are one family, $\tanh(z) = 2\sigma(2z) - 1$, and so
# $\tanh'(z) = 4\sigma'(2z)$: four times as high, and half as wide. Beyond $|z| = 1.66$ it is tanh that has the smaller
# derivative. It reduces the problem, as the pictures above show, and does not end it: tanh saturates too.

# %%
figure, arrays = runner.show(fig_5_1_tanh)
figure

# %% [markdown]
# ## Through time
#
# A recurrent net reads a sequence $x_1, \ldots, x_T$ and carries a state from step to step. The notes begin with the
# LSTM; to see what it is good for we need its plain ancestor, `rnn.step`:
#
# $$h_t = \tanh(W x_t + U h_{t-1} + b) .$$
#
# Unrolled in time it is a deep network with one layer for each step, all with the same weights. Backpropagation
# through it is chapter 2 once more: with $dh_t$ the derivative of the loss by $h_t$, from $t = T$ down to 1,
#
# $$dz_t = dh_t \odot (1 - h_t^2), \qquad dh_{t-1} = U^T dz_t$$
#
# (and to $dh_{t-1}$ comes what the loss says of $h_{t-1}$ itself). Then
# $dW = \sum_t dz_t\, x_t^T$, $dU = \sum_t dz_t\, h_{t-1}^T$ and $db = \sum_t dz_t$.
#
# This is the backward pass of `rnn.unroll`. `rnn.scan` computes the same values and leaves derivatives to autodiff,
# so that one can be held against the other, here for two sequences of seven steps.

# %%
init_key, xs_key, signs_key = jax.random.split(jax.random.key(1), 3)
xs = jax.random.normal(xs_key, (7, 2, 3))  # T, B, p
signs = jax.random.rademacher(signs_key, (7, 2, 5), float)  # so that the loss says something of every state


def loss(params, state, xs, *, unroll):
    last, states = unroll(params, state, xs)
    return jnp.sum(signs * states**2) + jnp.sum(last**3)


start = (rnn.init(init_key, inputs=3, units=5), rnn.zero_state(5), xs)
report = gradcheck.compare(partial(loss, unroll=rnn.scan), jax.grad(partial(loss, unroll=rnn.unroll)), *start)
print(report)
assert report.ok

# %% [markdown]
# The factor $U^T \mathrm{diag}(1 - h_t^2)$ appears once for each step. It is 5.1's product again, over time.
#
# ## 5.2 LSTMs
#
# An LSTM has two memories of $d$ numbers each: a long-term memory $\mathrm{ltm}_t$, and a working memory
# $\mathrm{wm}_t$, which is also its output. Each step asks four questions of the new input $x_t \in \mathbb{R}^p$ and
# of what it had in mind, and each question is one layer of neurons.
#
# *What of the long-term memory is to be remembered?* A number between 0 (forget) and 1 (keep) for each component:
#
# $$\mathrm{rem}_t = \sigma(W_r x_t + U_r\, \mathrm{wm}_{t-1} + b_r) \tag{5.1}$$
#
# *What could be added to it?* A candidate between $-1$ and 1:
#
# $$\mathrm{ltm}'_t = \tanh(W_l x_t + U_l\, \mathrm{wm}_{t-1} + b_l) \tag{5.2}$$
#
# *How much of this candidate is worth saving?*
#
# $$\mathrm{save}_t = \sigma(W_s x_t + U_s\, \mathrm{wm}_{t-1} + b_s) \tag{5.3}$$
#
# With these the long-term memory moves on, component by component:
#
# $$\mathrm{ltm}_t = \mathrm{rem}_t \odot \mathrm{ltm}_{t-1} + \mathrm{save}_t \odot \mathrm{ltm}'_t \tag{5.4}$$
#
# *What of it matters now?*
#
# $$\mathrm{focus}_t = \sigma(W_f x_t + U_f\, \mathrm{wm}_{t-1} + b_f) \tag{5.5}$$
#
# And that, squashed, is the working memory:
#
# $$\mathrm{wm}_t = \mathrm{focus}_t \odot \tanh(\mathrm{ltm}_t) \tag{5.6}$$
#
# Two slips of the notes: they give $W$ the shape $p \times d$, where $W x_t$ needs $d \times p$; and they say "denote
# this candidate by tanh" and mean $\mathrm{ltm}'_t$. Elsewhere one meets the same cell under other names: rem, save
# and focus are the forget, input and output gates $f$, $i$ and $o$; the candidate is $g$; ltm and wm are the cell
# state $c$ and the hidden state $h$.
#
# **Figure 5.2** shows all the equations at once. So does this:

# %%
print(inspect.getsource(lstm.step))

# %% [markdown]
# Four layers of three arrays, for inputs of size $p = 3$ and $d = 5$ memory cells:

# %%
params, state = lstm.init(init_key, inputs=3, units=5), lstm.zero_state(5)
for name, gate in params._asdict().items():
    print(f"{name:5} W {gate.W.shape}, U {gate.U.shape}, b {gate.b.shape}")

# %% [markdown]
# `lstm.unroll` takes the steps of a whole sequence, or of a batch of them. Step by step it comes out the same, up to
# the last bits of single precision:

# %%
last, states = lstm.unroll(params, state, xs)
stepwise = state
for x_t in xs:
    stepwise = lstm.step(params, stepwise, x_t)
for name in lstm.State._fields:
    apart = jnp.abs(getattr(stepwise, name) - getattr(last, name)).max()
    print(f"{name}: {apart:.0e} apart after {len(xs)} steps")
    assert apart < 1e-5

# %% [markdown]
# ### Its gradient, by hand
#
# Backwards through the six equations, writing $dq$ for the derivative of the loss by $q$, and with $d\mathrm{wm}_t$ and
# $d\mathrm{ltm}_t$ made of what step $t + 1$ hands back and of what the loss says of the two itself:
#
# $$\begin{aligned}
# d\mathrm{focus}_t &= d\mathrm{wm}_t \odot \tanh(\mathrm{ltm}_t),
# & d\mathrm{ltm}_t &\mathrel{+}= d\mathrm{wm}_t \odot \mathrm{focus}_t \odot \big(1 - \tanh(\mathrm{ltm}_t)^2\big) \\
# d\mathrm{rem}_t &= d\mathrm{ltm}_t \odot \mathrm{ltm}_{t-1},
# & d\mathrm{save}_t &= d\mathrm{ltm}_t \odot \mathrm{ltm}'_t \\
# d\mathrm{ltm}'_t &= d\mathrm{ltm}_t \odot \mathrm{save}_t,
# & d\mathrm{ltm}_{t-1} &= d\mathrm{ltm}_t \odot \mathrm{rem}_t
# \end{aligned}$$
#
# Through the activation of each layer, $dz = dq \odot q (1 - q)$ for the three sigmoids and
# $dz = d\mathrm{ltm}' \odot (1 - \mathrm{ltm}'^2)$ for the candidate. The four layers together give
# $d\mathrm{wm}_{t-1} = \sum U^T dz_t$, and each of them
#
# $$dW = \sum_t dz_t\, x_t^T, \qquad dU = \sum_t dz_t\, \mathrm{wm}_{t-1}^T, \qquad db = \sum_t dz_t .$$
#
# That is what trains every LSTM here. Below it is checked by all twelve arrays of the parameters `[0]`, by both first
# memories `[1]` and by the inputs `[2]`.

# %%


def loss_of_memories(arguments, unroll):
    last, states = unroll(*arguments)
    return jnp.sum(signs * states.wm**2) + jnp.sum(last.ltm**3)


both = (params, state, xs)
scanned, by_hand = (partial(loss_of_memories, unroll=unroll) for unroll in (lstm.scan, lstm.unroll))
report = gradcheck.compare(scanned, jax.grad(by_hand), both)
print(report)
assert report.ok

# %% [markdown]
# ### Why it helps
#
# Look at the last of the six small equations: $d\mathrm{ltm}_{t-1} = d\mathrm{ltm}_t \odot \mathrm{rem}_t$. Along the
# long-term memory a gradient meets no matrix and no tanh, only rem. Where rem is near 1 it passes as it is, and rem
# is near 1 when its bias is large: at 5, $\sigma(5) = 0.993$.
#
# Below, the gradient of a loss at the end of 100 random steps, followed back to the first. Left are LSTMs, right plain
# nets, all at their random start, before any training; lines are medians. An orthogonal $U$ keeps every length, and
# still the gradient of the plain net dies, since $\tanh' < 1$. Twice that $U$ outweighs it; then the gradient grows
# instead, in one net far more than in another.

# %%
figure, arrays = runner.show(gradient_through_time)
figure

# %% [markdown]
# ### An LSTM that counts
#
# The notes' reference [1], Edwin Chen's *Exploring LSTMs*, shows networks strings such as `aaaXbbb`: some `a`, an `X`,
# and as many `b`. Who wants to predict the end of the string must have counted. These nets with eight memory cells are
# trained on strings of up to ten `a`, and tested on up to forty.
#
# On the left is the inside of the best of them, over a string twice as long as any it was trained on. One of its
# long-term memories counts: one more with every `a`, one less with every `b` (in the picture the sign is turned where
# the net counts downwards). Nobody asked it to. The rows underneath show how: rem stays near 1 and so keeps the count,
# and the sign of the candidate says which way to count. On the right, how far each net counts without a mistake as it
# learns.

# %%
figure, arrays = runner.show(counting, seeds=3)
print(f"right up to n = {', '.join(map(str, arrays['reach'][:, -1]))}")
print(f"correlation of the best cell with the count: {arrays['correlation']:.3f}")
figure

# %% [markdown]
# ### Sentences of different lengths
#
# A batch is one array, and sentences have different lengths. Those of *The Zen of Python* are padded here with zeros to
# the longest; the mask says which steps are real. In all others the memories stay as they are, so that the last ones
# are those after each sentence's own end. Each character is a number, and a line break begins and ends a sentence.

# %%
with contextlib.redirect_stdout(io.StringIO()):
    import this
sentences = codecs.decode(this.s, "rot13").splitlines()[2:]
alphabet = "".join(sorted({"\n", *"".join(sentences)}))
rows = [jnp.array([alphabet.index(c) for c in f"\n{sentence}\n"]) for sentence in sentences]
lengths = jnp.array([len(row) - 1 for row in rows])
padded = jnp.stack([jnp.pad(row, (0, max(map(len, rows)) - len(row))) for row in rows])
mask = lstm.mask(lengths, padded.shape[1] - 1)  # [T, B]
print(f"{len(rows)} sentences of {lengths.min()} to {lengths.max()} steps: {mask.mean():.0%} of the steps are real")

# %% [markdown]
# An LSTM that predicts the next character needs an embedding of the characters below it and a linear layer above.
# `jnn.language` has these, and the cost of texts of one length. Here is the cost with a mask, a mean over the real
# characters.

# %%


def masked_cost(params, rows, lengths):
    xs, ys = rows[:, :-1].T, rows[:, 1:].T
    mask = lstm.mask(lengths, len(xs))
    _, states = lstm.stack(params.layers, language.zero_states(params), params.embedding[xs], mask=mask)
    z = mlp.linear(params.readout, states[-1].wm)
    values = jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, ys[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.sum(mask)


params = language.init(init_key, len(alphabet), inputs=16, units=64)
print(f"cost {masked_cost(params, padded, lengths):.4f}; of equally likely characters {jnp.log(len(alphabet)):.4f}")

# %% [markdown]
# The batch has the cost of its sentences one by one, and the gradient: here of the first three. What the padding
# consists of does not matter, to the last bit.

# %%


def one_by_one(params):
    each = [language.cost(params, language.zero_states(params), row[None])[0] for row in rows[:3]]
    return jnp.dot(lengths[:3], jnp.stack(each)) / jnp.sum(lengths[:3])


value, gradient = jax.value_and_grad(masked_cost)(params, padded[:3], lengths[:3])
expected, expected_gradient = jax.jit(jax.value_and_grad(one_by_one))(params)
apart = max(map(jnp.max, jax.tree.leaves(jax.tree.map(lambda a, b: abs(a - b), gradient, expected_gradient))))
print(f"cost {value:.6f}, one by one {expected:.6f}; gradients are at most {apart:.0e} apart")
assert abs(value - expected) < 1e-5
assert apart < 1e-5

inside = jnp.arange(padded.shape[1]) <= lengths[:, None]
assert masked_cost(params, jnp.where(inside, padded, 7)[:3], lengths[:3]) == value

# %% [markdown]
# 150 steps of Adam are enough to learn most of them by heart. Given the first word, the network goes on with its
# likeliest characters.

# %%
optimizer = optax.adam(0.02)
state, history = train.run(
    init_key,
    Partial(jax.value_and_grad(masked_cost)),
    optimizer,
    train.init(optimizer, params),
    (padded, lengths),
    epochs=150,
    batch_size=len(rows),
)
bits = history.losses / jnp.log(2)
print(f"{bits[0, 0]:.2f} bits per character at first, {bits[-1, -1]:.2f} at the end\n")
for word in ("Beautiful", "Simple", "Namespaces", "There"):
    start = jnp.array([alphabet.index(c) for c in f"\n{word}"])
    states, _ = language.logits(state.params, language.zero_states(state.params), start[:-1])
    _, written = language.generate(init_key, state.params, states, start[-1], steps=70, temperature=0)
    print(word + "".join(alphabet[i] for i in written).partition("\n")[0])

# %% [markdown]
# ### A network that writes
#
# `python -m experiments text` does this with nine million characters, the source of Python's standard library, or with
# any other text. The memories are carried from window to window, so the network can remember what is further back than
# the gradient goes. Some of its cells have a meaning: the colours below are the long-term memory of those that go best
# with being in a string, in a comment, in brackets, and with the indentation.
#
# ![Bits per character, samples, and the text in the colours of four cells](../figures/text.png)

# %% [markdown]
# ### Longer memories
#
# Three more experiments take minutes, and the last needs MNIST, so here are only their pictures.
#
# `python -m experiments adding_problem`: two marked numbers in a sequence of 100 or 200 are to be added. The LSTM
# learns it; the plain net always says 1, or hardly does better.
#
# ![Learning curves of LSTMs and plain nets on the adding problem](../figures/adding_problem.png)
#
# `python -m experiments copy_memory`: five symbols are to be repeated after 20 blanks.
#
# ![What an LSTM and a plain net recall, and their learning curves](../figures/copy_memory.png)
#
# `python -m experiments rows`: MNIST's digits, read row by row as sequences of 28.
#
# ![Digits read row by row](../figures/rows.png)
#
# With this the notes end. Back to the [first chapter](chapter_1.ipynb).
