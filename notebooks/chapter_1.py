# %% [markdown]
# # Chapter 1: recognising handwritten digits
#
# These five notebooks walk through a set of notes and exercises on neural networks, which in turn follow Michael
# Nielsen's book *Neural Networks and Deep Learning*. Each equation, exercise and figure is here in its order, and next
# to it the function of `jnn` that computes it, a number that says whether it is right, and mostly a picture.
# You need no notes at hand: we tell what each one asks.
#
# | | |
# |---|---|
# | **Chapter 1** | perceptrons, sigmoid neurons, and a network that reads digits |
# | [Chapter 2](chapter_2.ipynb) | backpropagation, derived by hand |
# | [Chapter 3](chapter_3.ipynb) | better costs, softmax, and what keeps a network from learning by heart |
# | [Chapter 4](chapter_4.ipynb) | networks that compute any function, built without training |
# | [Chapter 5](chapter_5.ipynb) | memory: recurrent networks and the LSTM |
#
# ## How to run them
#
# In a checkout of the project, `make run` sets up `.venv`; its Python runs every notebook, in any editor that opens
# them. Each is also a plain script, `chapter_1.py` for this one, and `python -m notebooks.renew chapter_1` executes
# it and writes the notebook anew. In a hosted notebook service the next cell fetches the project; it asks where from,
# unless `JNN_REPOSITORY` says so. With `JNN_QUICK=1` in the environment the experiments run at a small size.
# No notebook takes more than a minute or two, and none needs a network, or a GPU, once it is set up.

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
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import read, runner
from experiments.chapter_1 import bits, digits, sigmoid_limit, steepest_descent
from experiments.read import drawing, specimens
from jnn import activations, backprop, data, mlp, perceptron

# %% [markdown]
# `jnn` is functions of arrays and nothing else. A network is a tuple of layers; a layer is its weights $w$ and its
# biases $b$. `w[j, k]` belongs to the connection from neuron $k$ to neuron $j$. (The notes write the two indices in
# this order from chapter 2 on, and the other way round in chapter 1; here it is the one order throughout.)
#
# A **perceptron** weighs its inputs and decides:
#
# $$a = \begin{cases} 1 & \text{if } w \cdot x + b > 0 \\ 0 & \text{otherwise.} \end{cases}$$
#
# A network of perceptrons is an ordinary network, `mlp.init`, run with the step activation in every layer:
# `perceptron.forward`. Here is a random one with five inputs and two outputs, for all 32 inputs of zeros and ones.

# %%
params = mlp.init(jax.random.key(8), (5, 8, 6, 2), weights=mlp.unit_normal, biases=mlp.unit_normal)
xs = jnp.array(list(itertools.product((0.0, 1.0), repeat=5)))
decide = jax.vmap(perceptron.forward, in_axes=(None, 0))
print(np.asarray(decide(params, xs).T, int))

# %% [markdown]
# ## Exercise 1.1: a perceptron does not care about scale
#
# *Multiply every weight and bias of a network of perceptrons by the same $c > 0$. Show that it behaves as before.*
#
# A perceptron looks at nothing but the sign of $w \cdot x + b$, and $c\,(w \cdot x + b)$ has the same one. So each
# perceptron of the first layer says what it said, hence those of the second hear what they heard, and so on to the
# output. `perceptron.scale` multiplies; let us see.

# %%
for c in (1e-3, 0.5, 3.0, 1e6):
    changed = jnp.sum(decide(perceptron.scale(params, c), xs) != decide(params, xs))
    print(f"c = {c:<9g} {changed} of {2 * len(xs)} outputs change")
    assert changed == 0

# %% [markdown]
# For powers of two this is exact to the last bit. For other $c$ rounding might tip a $w \cdot x + b$ that is exactly
# 0, and a 0 is where the next exercise gets interesting, too.
#
# ## Exercise 1.2: sigmoid neurons become perceptrons
#
# A **sigmoid neuron** answers gradually, with $\sigma(z) = 1 / (1 + e^{-z})$ of its weighted input
# $z = w \cdot x + b$. That is `activations.sigmoid`, and `mlp.forward` runs a network of such neurons.
#
# *Replace all perceptrons by sigmoid neurons, multiply all weights and biases by $c$, and let $c \to \infty$. Show that
# the network then behaves as the perceptrons did, provided that no $w \cdot x + b$ is 0. What if one is?*
#
# Where $w \cdot x + b$ is positive, $c\,(w \cdot x + b) \to \infty$ and $\sigma \to 1$; where it is negative,
# $\sigma \to 0$. Both are the perceptron's answers, layer by layer. But $\sigma(c \cdot 0) = 1/2$ for every $c$, while
# the perceptron says 0.

# %%
for c in (1.0, 10.0, 100.0, 1000.0):
    print(
        f"c = {c:<5g}", *(f"sigma({c * z:g}) = {activations.sigmoid(c * z):.4f}" for z in (-0.02, 0.0, 0.02)), sep="   "
    )

# %% [markdown]
# Now whole networks: random ones, each with an input of its own, as $c$ grows. The blue ones meet the condition; in
# the orange ones one perceptron has $w \cdot x + b = 0$ exactly. Every line that starts with `ok` is a claim that was
# checked on the numbers just computed. A claim that is false would stop the notebook.

# %%
figure, arrays = runner.show(sigmoid_limit)
figure

# %% [markdown]
# The blue networks all arrive, and fast: the distance falls like $e^{-c\,|w \cdot x + b|}$ of the neuron that is
# nearest to deciding otherwise. Of the orange ones some arrive all the same, where the stuck neuron does not matter,
# and some never do.
#
# ## Exercise 1.3: from a digit to its bits
#
# *A network has ten output neurons, one for each digit. The right one is at 0.99 or more, the others are below 0.01.
# Add a layer of four neurons that gives the digit in binary.*
#
# Take bit $j$, and call its neuron $j'$, with $0'$ the least significant. Connect it with weight $+c$ to every digit
# that has this bit set and with $-c$ to the others, without a bias. If the digit has the bit then
# $z_{j'} \ge (0.99 - 9 \cdot 0.01)\,c = 0.9\,c$, otherwise $z_{j'} \le -0.9\,c$. With $c = 20$ the sigmoid is within
# $e^{-18}$ of a bit. This is `perceptron.bits_layer`, and its weights over $c$ are the binary digits, read downwards:

# %%
layer = perceptron.bits_layer(c=20.0)
print(np.asarray(layer.w[::-1] / 20, int), "  bits 3', 2', 1', 0' of the digits 0 ... 9")
nine = jnp.full(10, 0.01).at[9].set(0.99)
print("9 in bits:", *(f"{bit:.6f}" for bit in mlp.forward((layer,), nine)[::-1]))

# %% [markdown]
# The notes have a slip here. They switch bit $1'$ on for 2, 3, 6, 7 and 9, but $9 = 1001_2$ does not have it: with
# their weights a 9 comes out as $1011_2 = 11$. (They also call $1'$ the second *most* significant bit; it is the second
# least.) The picture shows both layers, and on the right the layer at work behind a network that has learnt to read:

# %%
figure, arrays = runner.show(bits)
figure

# %% [markdown]
# ## Exercise 1.4: why gradient descent goes against the gradient
#
# A small step $\Delta v$ changes a differentiable cost by about $\Delta C \approx \nabla C \cdot \Delta v$.
# *Of all steps with the length $\epsilon$, which makes $\nabla C \cdot \Delta v$ least? Show that it is
# $\Delta v = -\eta \nabla C$ with $\eta = \epsilon / \|\nabla C\|$.*
#
# Cauchy and Schwarz say $|\nabla C \cdot \Delta v| \le \|\nabla C\|\,\epsilon$, so the product is never below
# $-\epsilon \|\nabla C\|$; and this step reaches that value. (The notes bound the absolute value and speak of its
# minimum. It is the signed product that is minimal, and the gradient must not be zero.) `perceptron.steepest_step`
# is the step, for a gradient of any shape, here for all parameters of a digit reader at once:

# %%
(train_xs, labels), test = data.digits()
reader = mlp.init(jax.random.key(0), (64, 30, 10))
cost, gradient = backprop.minibatch_value_and_grad(reader, train_xs[:100], data.one_hot(labels[:100], 10))
step = perceptron.steepest_step(gradient, epsilon=0.1)
product = sum(jnp.vdot(g, dv) for g, dv in zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True))
moved, _ = backprop.minibatch_value_and_grad(
    jax.tree.map(jnp.add, reader, step), train_xs[:100], data.one_hot(labels[:100], 10)
)
print(f"grad C . dv = {product:.4f}, and the cost changes by {moved - cost:.4f}")

# %% [markdown]
# Do random directions do better? In two dimensions some come close. In thousands, where networks live, almost every
# direction is nearly at a right angle to the gradient and hardly changes the cost at all. That is why the gradient is
# worth its price. On the right the steps get longer, and what was true of short ones ends.

# %%
figure, arrays = runner.show(steepest_descent, directions=5000, changes=300)
figure

# %% [markdown]
# ## A network that reads
#
# Put together: a network with 30 hidden sigmoid neurons and a quadratic cost (`costs.quadratic`), and many small steps
# against the gradient, each computed from ten digits. These are the 1,797 embedded digits (UCI), small scans of 8 by 8
# pixels; one in five is kept back to test. Five networks start from five random points and train side by side:

# %%
figure, arrays = runner.show(digits)
print("test accuracy:", runner.format_number("test_accuracy", arrays, scale=100, unit="%"))
figure

# %% [markdown]
# Guessing would give 10 %. Nielsen's network on the 70,000 larger images of MNIST is the same program,
# `python -m experiments digits --data mnist`.
#
# ## Your own handwriting
#
# Write some digits on white paper, next to each other but not touching, photograph them and put the name of the file
# into the next cell. `None` reads a sheet that the project draws. The network comes with `jnn`: it has 300 and 200
# hidden neurons and learnt from MNIST, with the methods of chapter 3. MNIST's images are all alike: a digit of at most
# 20 by 20 pixels, white on black, with its centre of mass in the middle of 28 by 28. So your photo has to become such
# images first, which `pictures.digits` sees to; without it even a good network reads hardly anything. Beside each box
# is what the network saw, and its ten outputs. An answer with a question mark is one that it is not sure of.

# %%
FILE = None  # such as "photo.jpg"
network = read.load_network()
reading = read.read(network, FILE or read.SHEET, read.load_picture(Path(FILE)) if FILE else specimens.sheet())
print(read.line(reading, network.sure))
drawing.figure([reading], network.sure)

# %% [markdown]
# `python -m experiments read photo.jpg` does the same, and `python -m experiments read --page` writes a page on which
# you draw with a mouse or a finger and watch the network's answer change.
#
# And where does the gradient come from? That is [chapter 2](chapter_2.ipynb).
