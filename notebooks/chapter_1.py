# %% [markdown]
# # Chapter 1: recognising handwritten digits
#
# These notebooks work through notes and exercises on neural networks, which in turn follow Michael Nielsen's book
# *Neural Networks and Deep Learning*. Each equation, exercise and figure appears in order, next to the function of
# `jnn` that computes it, a numerical check and usually a picture. You do not need the notes: every exercise is quoted.
#
# | | |
# |---|---|
# | **Chapter 1** | perceptrons, sigmoid neurons, and a network that reads digits |
# | [Chapter 2](chapter_2.ipynb) | backpropagation, derived by hand |
# | [Chapter 3](chapter_3.ipynb) | better costs, softmax, and regularisation against overfitting |
# | [Chapter 4](chapter_4.ipynb) | networks that compute any function, built without training |
# | [Chapter 5](chapter_5.ipynb) | memory: recurrent networks and the LSTM |
#
# ## How to run them
#
# In a checkout of the project, `make run` creates `.venv`, whose Python runs every notebook in any editor. The source
# of each notebook is a script (`chapter_1.py` for this one); `python -m notebooks.renew chapter_1` executes it and
# rewrites the notebook. In a hosted notebook service the next cell fetches the project from `JNN_REPOSITORY`, or asks
# for an address. With `JNN_QUICK=1` in the environment the experiments run at a small size. No notebook takes more than
# a minute or two, and none needs a GPU or, once it is set up, a network connection.

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
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments import read, runner
from experiments.chapter_1 import bits, digits, sigmoid_limit, steepest_descent
from experiments.read import drawing, specimens
from jnn import activations, backprop, data, mlp, perceptron

# %% [markdown]
# `jnn` consists of functions of arrays. A network is a tuple of layers, and a layer has weights $w$ and biases $b$.
# `w[j, k]` is the weight of the connection from neuron $k$ to neuron $j$. (The notes use this order of the indices from
# chapter 2 on and the opposite order in chapter 1; the notebooks use it throughout.)
#
# A **perceptron** computes a weighted sum of its inputs and makes a decision:
#
# $$a = \begin{cases} 1 & \text{if } w \cdot x + b > 0 \\ 0 & \text{otherwise.} \end{cases}$$
#
# A network of perceptrons is an ordinary network, `mlp.init`, run with the step activation in every layer:
# `perceptron.forward`. Here are the outputs of a random network for every input of zeros and ones.

# %%
sizes = (5, 8, 6, 2)
params = mlp.init(jax.random.key(8), sizes, weights=mlp.unit_normal, biases=mlp.unit_normal)
xs = jnp.array(list(itertools.product((0.0, 1.0), repeat=sizes[0])))
decide = jax.vmap(perceptron.forward, in_axes=(None, 0))
print(np.asarray(decide(params, xs).T, int))

# %% [markdown]
# ## Exercise 1.1: a perceptron does not care about scale
#
# *Multiply every weight and bias of a network of perceptrons by the same $c > 0$. Show that it behaves as before.*
#
# The output of a perceptron depends only on the sign of $w \cdot x + b$, and $c\,(w \cdot x + b)$ has the same sign. So
# the outputs of the first layer are unchanged, hence the inputs of the second layer, and so on up to the output.
# `perceptron.scale` multiplies the parameters:

# %%
for c in (1e-3, 0.5, 3.0, 1e6):
    changed = decide(perceptron.scale(params, c), xs) != decide(params, xs)
    print(f"c = {c:<9g} {changed.sum()} of {changed.size} outputs change")
    assert not changed.any()

# %% [markdown]
# For powers of two this is exact to the last bit. For any other $c$, rounding might change the sign where
# $w \cdot x + b$ is exactly 0, which is also the interesting case in the next exercise.
#
# ## Exercise 1.2: sigmoid neurons become perceptrons
#
# The output of a **sigmoid neuron** changes gradually: it is $\sigma(z) = 1 / (1 + e^{-z})$ of the weighted input
# $z = w \cdot x + b$. This is `activations.sigmoid`, and `mlp.forward` evaluates a network of such neurons.
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
# Now whole networks: random networks, each with its own input, as $c$ grows. The blue ones satisfy the condition; in
# each of the orange ones, one perceptron has $w \cdot x + b = 0$ exactly. Every line that starts with `ok` is a claim
# that was checked on the numbers just computed; a false claim would stop the notebook.

# %%
figure, arrays = runner.show(sigmoid_limit)
figure

# %% [markdown]
# All blue networks converge, and fast: the distance falls like $e^{-c\,|w \cdot x + b|}$ of the neuron nearest to its
# threshold. Some orange networks converge as well, because the neuron at 1/2 does not matter, and some never do.
#
# ## Exercise 1.3: from a digit to its bits
#
# *A network has ten output neurons, one for each digit. The activation of the correct one is at least 0.99, the others
# are below 0.01. Add a layer of four neurons that represents the digit in binary.*
#
# Take bit $j$, and call its neuron $j'$, with $0'$ the least significant. Connect it with weight $+c$ to every digit
# that has this bit set and with $-c$ to the others, without a bias. If the digit has the bit then
# $z_{j'} \ge (0.99 - 9 \cdot 0.01)\,c = 0.9\,c$, otherwise $z_{j'} \le -0.9\,c$. With $c = 20$ the sigmoid is within
# $e^{-18}$ of a bit. This is `perceptron.bits_layer`; each column of its weights, divided by $c$, spells a digit in
# binary, with $-1$ for 0:

# %%
c = 20.0
layer = perceptron.bits_layer(c=c)
print(np.asarray(layer.w[::-1] / c, int), "  bits 3', 2', 1', 0' of the digits 0 ... 9")
nine = jnp.full(10, 0.01).at[9].set(0.99)
print("9 in bits:", *(f"{bit:.6f}" for bit in mlp.forward((layer,), nine)[::-1]))

# %% [markdown]
# The notes contain a slip here. They set bit $1'$ for 2, 3, 6, 7 and 9, but $9 = 1001_2$ does not have it: with their
# weights, the result for a 9 is $1011_2 = 11$. (They also call $1'$ the second *most* significant bit; it is the second
# least significant.) The picture shows both layers, and on the right the layer on top of a trained network:

# %%
figure, arrays = runner.show(bits)
figure

# %% [markdown]
# ## Exercise 1.4: why gradient descent goes against the gradient
#
# A small step $\Delta v$ changes a differentiable cost by about $\Delta C \approx \nabla C \cdot \Delta v$.
# *Of all steps of length $\epsilon$, which one minimises $\nabla C \cdot \Delta v$? Show that it is
# $\Delta v = -\eta \nabla C$ with $\eta = \epsilon / \|\nabla C\|$.*
#
# By the Cauchy-Schwarz inequality, $|\nabla C \cdot \Delta v| \le \|\nabla C\|\,\epsilon$, so the product is never
# below $-\epsilon \|\nabla C\|$, and this step attains that value. (The notes bound the absolute value and speak of its
# minimum. The signed product is minimal, and the gradient must not be zero.) `perceptron.steepest_step` computes the
# step for a gradient of any shape, here for all parameters of a network at once:

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
# Do random directions do better? In two dimensions some come close. A network has thousands of dimensions, and there
# almost every direction is nearly orthogonal to the gradient and hardly changes the cost. That is why the gradient is
# worth computing. On the right the steps get longer, until the linear approximation no longer holds.

# %%
figure, arrays = runner.show(steepest_descent, directions=5000, changes=300)
figure

# %% [markdown]
# ## A network that reads
#
# Put together: a network with one hidden layer of sigmoid neurons and a quadratic cost (`costs.quadratic`) takes many
# small steps against the gradient of a mini-batch. The data are the 1,797 digits that come with `jnn` (UCI), scans of 8
# by 8 pixels; one in five is held out for testing. Several networks, each with its own seed, train side by side:

# %%
figure, arrays = runner.show(digits)
print("test accuracy:", runner.format_number("test_accuracy", arrays, scale=100, unit="%"))
figure

# %% [markdown]
# Guessing would be right for one digit in ten. `python -m experiments digits --data mnist` trains Nielsen's network
# with the same program on the larger images of MNIST.
#
# ## Your own handwriting
#
# Write some digits on white paper, next to each other but not touching, take a photo, and put the name of the file into
# the next cell. `None` reads a sheet that the project draws. The network comes with `jnn` and was trained on MNIST with
# the methods of chapter 3. MNIST's images all have one format: a digit of at most 20 by 20 pixels, white on black, with
# its centre of mass in the middle of 28 by 28 pixels. `pictures.digits` converts a photo to such images; without this
# step even a good network reads hardly anything. Beside each box are the image that the network saw and its ten
# outputs. A question mark marks an uncertain answer.

# %%
FILE = None  # such as "photo.jpg"
network = read.load_network()
reading = read.read(network, FILE or read.SHEET, read.load_picture(Path(FILE)) if FILE else specimens.sheet())
print(read.line(reading, network.sure))
drawing.figure([reading], network.sure)

# %% [markdown]
# `python -m experiments read photo.jpg` does the same, and `python -m experiments read --page` writes a page on which
# you draw with a mouse or a finger while the network's answer changes.
#
# Where does the gradient come from? [Chapter 2](chapter_2.ipynb) derives it.
