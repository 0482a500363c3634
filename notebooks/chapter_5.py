# %% [markdown]
# # Chapter 5: memory, and gradients that survive it
#
# Backpropagation sends a gradient backwards through the layers of a network. Every layer multiplies it, and a long
# product of numbers tends to vanish or explode. This chapter shows this first in deep networks (5.1) and then in
# recurrent networks, where every time step of a sequence is another layer. The LSTM (5.2) is a recurrent network
# designed around the problem: it adds to a memory, and along this memory a gradient can survive.
#
# `jnn.rnn` and `jnn.lstm` have backpropagation through time, derived by hand as in [chapter 2](chapter_2.ipynb).
# ([Chapter 1](chapter_1.ipynb) explains how to run the notebooks.)

# %% tags=["hide-cell"]
# A hosted notebook fetches the project first, which takes a minute; in a checkout it is in the folder above.
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
# which has no effect if the derivative is tiny, and does harm if it is huge. To show where such derivatives come from,
# the notes consider a network without biases or activations: $L - 1$ layers of two neurons, each connected to one
# neuron of the previous layer, and an output neuron that adds the two.
#
# $$W^{(i)} = \begin{pmatrix} w_{11}^{(i)} & 0 \\ 0 & w_{22}^{(i)} \end{pmatrix} \ (i < L), \qquad
# W^{(L)} = \big(w_{11}^{(L)},\, w_{12}^{(L)}\big)$$
#
# Its output is a sum of two products, one for each input:
#
# $$\hat y = w_{11}^{(L)} w_{11}^{(L-1)} \cdots w_{11}^{(2)} w_{11}^{(1)}\, x_1 +
#   w_{12}^{(L)} w_{22}^{(L-1)} \cdots w_{22}^{(2)} w_{22}^{(1)}\, x_2 .$$
#
# (In the second product the notes print $w_{11}^{(2)}$ in place of $w_{22}^{(2)}$.) With the loss $(y - \hat y)^2 / 2$,
# the derivative with respect to a weight is the error times the input times *all the other* weights of its product:
#
# $$\frac{\partial L}{\partial w_{11}^{(1)}} = (\hat y - y)\, w_{11}^{(L)} w_{11}^{(L-1)} \cdots w_{11}^{(2)}\, x_1 .$$
#
# `gradient_flow.chain` is the network and `gradient_flow.chain_gradient` is this formula for every weight at once,
# compared here with autodiff and finite differences, for random weights:

# %%
x, y = jnp.array([0.6, 0.8]), jnp.array(1.0)
weights = jax.random.uniform(jax.random.key(0), (6, 2), minval=0.5, maxval=1.5)
report = gradcheck.compare(
    lambda w, x, y: (y - gradient_flow.chain(w, x)) ** 2 / 2, gradient_flow.chain_gradient, weights, x, y
)
print(report)
assert report.ok

# %% [markdown]
# Now many layers, all of whose weights are 0.9, 1 or 1.1. These numbers look harmless, but their powers are not, and
# with 1.1 the error $\hat y - y$ explodes as well:

# %%
layers = 100
for w in (0.9, 1.0, 1.1):
    weights = jnp.full((layers, 2), w)
    slope = gradient_flow.chain_gradient(weights, x, y)[0, 0]
    print(
        f"w = {w}: w^{layers - 1} = {w ** (layers - 1):.3g}, output {gradient_flow.chain(weights, x):.3g}, "
        f"dL/dw_11^(1) = {slope:.3g}"
    )

# %% [markdown]
# The result is the same for every weight, since each product omits just one factor.
#
# Networks usually have activations between their layers, and on the way back each layer multiplies the gradient by
# $w^T$ and by the derivative of its activation. The upper left panel shows the chain; the others show deep networks
# whose random weights are small ($g = 0.5$), ordinary ($g = 1$) and large ($g = 2$). Read them from right to left, as
# the gradient flows: from the last layer back to the input. (Relu, $\max(z, 0)$, is not in the notes. Its derivative is
# 1 or 0, equally often for random weights.)

# %%
figure, arrays = runner.show(vanishing_gradient)
figure

# %% [markdown]
# ### Exercise 5.1: would another activation help?
#
# The derivative of the sigmoid is at most 1/4, attained at $z = 0$. So every layer of sigmoid neurons shrinks a
# gradient, unless its weights are large. With an activation whose derivative at 0 is larger, the gradient shrinks more
# slowly; if the derivative exceeds 1, the gradient might explode. The notes suggest
#
# $$\tanh(z) = \frac{e^z - e^{-z}}{e^z + e^{-z}}, \qquad \tanh'(z) = 1 - \tanh(z)^2 .$$
#
# and ask for a derivative at 0 that is higher, "but less than 1". That of tanh is exactly 1:

# %%
for f in (activations.sigmoid, activations.tanh):
    print(f"{f.name}: f'(0) = {f.prime(0.0)} by formula, {jax.grad(f)(0.0)} by autodiff")
    assert f.prime(0.0) == jax.grad(f)(0.0)

# %% [markdown]
# **Figure 5.1.** Both functions and their derivatives. They are related by $\tanh(z) = 2\sigma(2z) - 1$, and so
# $\tanh'(z) = 4\sigma'(2z)$: four times as high, and half as wide. Beyond $|z| \approx 1.66$ the derivative of tanh is
# the smaller one. So tanh mitigates the problem, as the figure above shows, but it saturates, too.

# %%
figure, arrays = runner.show(fig_5_1_tanh)
figure

# %% [markdown]
# ## Through time
#
# A recurrent network reads a sequence $x_1, \ldots, x_T$ and carries a state from step to step. The notes begin with
# the LSTM; its advantage shows in comparison with the simple recurrent network, `rnn.step`:
#
# $$h_t = \tanh(W x_t + U h_{t-1} + b) .$$
#
# Unrolled in time, it is a deep network with one layer for each step, all with the same weights. Backpropagation works
# as in chapter 2: with $dh_t$ the derivative of the loss with respect to $h_t$, from $t = T$ down to 1,
#
# $$dz_t = dh_t \odot (1 - h_t^2), \qquad dh_{t-1} = U^T dz_t$$
#
# (and $dh_{t-1}$ also includes the direct derivative of the loss with respect to $h_{t-1}$). Then
# $dW = \sum_t dz_t\, x_t^T$, $dU = \sum_t dz_t\, h_{t-1}^T$ and $db = \sum_t dz_t$.
#
# This is the backward pass of `rnn.unroll`. `rnn.scan` computes the same values and leaves derivatives to autodiff.
# Here their gradients are compared, for a batch of sequences:

# %%
init_key, xs_key, signs_key = jax.random.split(jax.random.key(1), 3)
T, B, p, d = 7, 2, 3, 5
xs = jax.random.normal(xs_key, (T, B, p))
signs = jax.random.rademacher(signs_key, (T, B, d), float)  # the loss depends on every state


def loss(params, state, xs, *, unroll):
    last, states = unroll(params, state, xs)
    return jnp.sum(signs * states**2) + jnp.sum(last**3)


start = (rnn.init(init_key, inputs=p, units=d), rnn.zero_state(d), xs)
report = gradcheck.compare(partial(loss, unroll=rnn.scan), jax.grad(partial(loss, unroll=rnn.unroll)), *start)
print(report)
assert report.ok

# %% [markdown]
# The factor $U^T \mathrm{diag}(1 - h_t^2)$ appears once for each step: this is the product of 5.1 again, over time.
#
# ## 5.2 LSTMs
#
# An LSTM has two memories of $d$ numbers each: a long-term memory $\mathrm{ltm}_t$, and a working memory
# $\mathrm{wm}_t$, which is also its output. At each step, four layers of neurons read the new input
# $x_t \in \mathbb{R}^p$ and the working memory, and answer four questions.
#
# *Which part of the long-term memory should be remembered?* A number between 0 (forget) and 1 (keep) for each
# component:
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
# They update the long-term memory, component by component:
#
# $$\mathrm{ltm}_t = \mathrm{rem}_t \odot \mathrm{ltm}_{t-1} + \mathrm{save}_t \odot \mathrm{ltm}'_t \tag{5.4}$$
#
# *Which part of it matters now?*
#
# $$\mathrm{focus}_t = \sigma(W_f x_t + U_f\, \mathrm{wm}_{t-1} + b_f) \tag{5.5}$$
#
# This part of the squashed long-term memory is the working memory:
#
# $$\mathrm{wm}_t = \mathrm{focus}_t \odot \tanh(\mathrm{ltm}_t) \tag{5.6}$$
#
# The notes contain two slips: they give $W$ the shape $p \times d$, but $W x_t$ requires $d \times p$; and they say
# "denote this candidate by tanh" and mean $\mathrm{ltm}'_t$. The usual names of rem, save and focus are forget, input
# and output gate, $f$, $i$ and $o$; the candidate is $g$; ltm and wm are the cell state $c$ and the hidden state $h$.
#
# **Figure 5.2** shows all six equations. So does this function:

# %%
print(inspect.getsource(lstm.step))

# %% [markdown]
# There are four layers of three arrays, for inputs of size $p$ and $d$ memory cells:

# %%
params, state = lstm.init(init_key, inputs=p, units=d), lstm.zero_state(d)
for name, gate in params._asdict().items():
    print(f"{name:5} W {gate.W.shape}, U {gate.U.shape}, b {gate.b.shape}")

# %% [markdown]
# `lstm.unroll` runs over a whole sequence, or a batch of sequences. Single steps give the same result, up to rounding
# in single precision:

# %%
last, states = lstm.unroll(params, state, xs)
stepwise = state
for x_t in xs:
    stepwise = lstm.step(params, stepwise, x_t)
for name in lstm.State._fields:
    difference = jnp.abs(getattr(stepwise, name) - getattr(last, name)).max()
    print(f"{name}: difference {difference:.0e} after {len(xs)} steps")
    assert difference < 1e-5

# %% [markdown]
# ### Its gradient, by hand
#
# Go backwards through the six equations, with $dq$ for the derivative of the loss with respect to $q$. $d\mathrm{wm}_t$
# and $d\mathrm{ltm}_t$ start as the sum of what comes back from step $t + 1$ and the direct derivative of the loss:
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
# $dz = d\mathrm{ltm}' \odot (1 - \mathrm{ltm}'^2)$ for the candidate. The sum over the four layers is
# $d\mathrm{wm}_{t-1} = \sum U^T dz_t$, and for each layer
#
# $$dW = \sum_t dz_t\, x_t^T, \qquad dU = \sum_t dz_t\, \mathrm{wm}_{t-1}^T, \qquad db = \sum_t dz_t .$$
#
# These gradients train every LSTM here. Below, they are checked with respect to all twelve arrays of the parameters
# `[0]`, both initial memories `[1]` and the inputs `[2]`.

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
# The last of these equations is $d\mathrm{ltm}_{t-1} = d\mathrm{ltm}_t \odot \mathrm{rem}_t$. Along the long-term
# memory a gradient is multiplied by rem, and by no matrix and no derivative of tanh. Where rem is near 1, the gradient
# passes unchanged; rem is near 1 if its bias is large, as $\sigma(5) \approx 0.993$.
#
# Below is the gradient of a loss at the end of a random sequence, followed back to the first step. LSTMs are on the
# left and plain networks on the right, all with random parameters, before any training; lines are medians. An
# orthogonal $U$ preserves lengths, and still the gradient of the plain network vanishes, because $\tanh' < 1$. Twice
# this $U$ outweighs the derivative; then the gradient grows, in some networks far more than in others.

# %%
figure, arrays = runner.show(gradient_through_time)
figure

# %% [markdown]
# ### An LSTM that counts
#
# The notes' reference [1], Edwin Chen's *Exploring LSTMs*, trains networks on strings such as `aaaXbbb`: some `a`, an
# `X`, and as many `b`. Predicting the end of the string requires counting. These small networks are trained on short
# strings and tested on longer ones.
#
# On the left are the memories of the best network, over a string longer than any in its training data. One of its
# long-term memories counts: it rises with every `a` and falls with every `b` (the sign is flipped in the figure if the
# network counts downwards). No part of the loss asks for this. The rows underneath show how it works: rem stays near 1
# and so keeps the count, and the sign of the candidate is the direction of counting. On the right is how far each
# network counts without a mistake during training.

# %%
figure, arrays = runner.show(counting, seeds=3)
print(f"correct up to n = {', '.join(map(str, arrays['reach'][:, -1]))}")
print(f"correlation of the best cell with the count: {arrays['correlation']:.3f}")
figure

# %% [markdown]
# ### Sentences of different lengths
#
# A batch is one array, but sentences have different lengths. Those of *The Zen of Python* are padded here with zeros to
# the longest; the mask marks the valid steps. Masked steps leave the memories unchanged, so that the last memories are
# those at the end of each sentence. Each character is a number, and a line break begins and ends a sentence.

# %%
with contextlib.redirect_stdout(io.StringIO()):
    import this
sentences = codecs.decode(this.s, "rot13").splitlines()[2:]
alphabet = "".join(sorted({"\n", *"".join(sentences)}))
rows = [jnp.array([alphabet.index(c) for c in f"\n{sentence}\n"]) for sentence in sentences]
lengths = jnp.array([len(row) - 1 for row in rows])
padded = jnp.stack([jnp.pad(row, (0, max(map(len, rows)) - len(row))) for row in rows])
mask = lstm.mask(lengths, padded.shape[1] - 1)  # [T, B]
print(f"{len(rows)} sentences of {lengths.min()} to {lengths.max()} steps: {mask.mean():.0%} of the steps are valid")

# %% [markdown]
# An LSTM that predicts the next character needs an embedding of the characters below it and a linear layer above it.
# `jnn.language` provides both, and a cost for texts of equal length. Here is a cost with a mask, the mean over the
# valid characters.

# %%


def masked_cost(params, rows, lengths):
    xs, ys = rows[:, :-1].T, rows[:, 1:].T
    mask = lstm.mask(lengths, len(xs))
    _, states = lstm.stack(params.layers, language.zero_states(params), params.embedding[xs], mask=mask)
    z = mlp.linear(params.readout, states[-1].wm)
    values = jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, ys[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.sum(mask)


params = language.init(init_key, len(alphabet), inputs=16, units=64)
print(f"cost {masked_cost(params, padded, lengths):.4f}; for a uniform distribution {jnp.log(len(alphabet)):.4f}")

# %% [markdown]
# The cost of the batch and its gradient equal those of its sentences, one by one. The values of the padding do not
# matter, to the last bit.

# %%


few = slice(3)


def one_by_one(params):
    each = [language.cost(params, language.zero_states(params), row[None])[0] for row in rows[few]]
    return jnp.dot(lengths[few], jnp.stack(each)) / jnp.sum(lengths[few])


value, gradient = jax.value_and_grad(masked_cost)(params, padded[few], lengths[few])
expected, expected_gradient = jax.jit(jax.value_and_grad(one_by_one))(params)
differences = jax.tree.map(lambda a, b: jnp.max(abs(a - b)), gradient, expected_gradient)
difference = max(jax.tree.leaves(differences))
print(f"cost {value:.6f}, one by one {expected:.6f}; largest difference of the gradients {difference:.0e}")
assert abs(value - expected) < 1e-5
assert difference < 1e-5

inside = jnp.arange(padded.shape[1]) <= lengths[:, None]
assert masked_cost(params, jnp.where(inside, padded, 7)[few], lengths[few]) == value

# %% [markdown]
# A short training run with Adam is enough to memorise most of them. Given the first word, the network continues with
# the most likely characters.

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
# `python -m experiments text` does the same with the source of Python's standard library, nine million characters, or
# with any other text. The memories are carried from window to window, so the network can remember text further back
# than its gradient reaches. Some of its cells have a meaning: the colours below show the long-term memory of the cells
# that correlate best with being in a string, in a comment or in brackets, and with the indentation.
#
# ![Bits per character, samples, and the text in the colours of four cells](../figures/text.png)

# %% [markdown]
# ### Longer memories
#
# Three more experiments take minutes, and the last needs MNIST, so only their figures are shown here.
#
# `python -m experiments adding_problem`: the task is to add two marked numbers of a long sequence. The LSTM learns it;
# the plain network does hardly better than the constant answer 1.
#
# ![Learning curves of LSTMs and plain networks on the adding problem](../figures/adding_problem.png)
#
# `python -m experiments copy_memory`: the task is to repeat some symbols after many blanks.
#
# ![What an LSTM and a plain network recall, and their learning curves](../figures/copy_memory.png)
#
# `python -m experiments rows`: MNIST's digits, read row by row as sequences.
#
# ![Digits read row by row](../figures/rows.png)
#
# The notes end here. Back to the [first chapter](chapter_1.ipynb).
