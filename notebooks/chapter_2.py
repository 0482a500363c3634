# %% [markdown]
# # Chapter 2: the backpropagation algorithm
#
# [Chapter 1](chapter_1.ipynb) took the gradient of a network's cost for granted. This chapter derives it by hand, with
# nothing but the chain rule. In `jnn` these derivations train the networks, and each is compared with automatic
# differentiation. ([Chapter 1](chapter_1.ipynb) explains how to run the notebooks.)

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
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from matplotlib import rcParams
from matplotlib.figure import Figure

from experiments import runner
from experiments.chapter_2 import backprop_check
from jnn import activations, backprop, costs, data, gradcheck, mlp, train

rcParams.update(runner.STYLE)
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 2.1 The backpropagation equations
#
# The notation, and the names in `jnn`:
#
# | symbol | meaning | in the code |
# |---|---|---|
# | $w^l_{jk}$ | the weight from neuron $k$ of layer $l-1$ to neuron $j$ of layer $l$ | `Layer.w[j, k]` |
# | $b^l_j$ | the bias of neuron $j$ in layer $l$ | `Layer.b[j]` |
# | $z^l_j$ | the weighted input of this neuron (the notes once say *output*) | `zs` |
# | $a^l_j = \sigma(z^l_j)$ | its activation | `activations` |
# | $\delta^l_j = \partial C / \partial z^l_j$ | its error | `deltas` |
#
# One layer computes
#
# $$z_j^l = \sum_k w_{jk}^l\, a_k^{l-1} + b_j^l, \qquad a^l_j = \sigma(z^l_j), \qquad 2 \le l \le L.$$
#
# The example network has $L = 4$ layers of different sizes, so that a wrong index cannot go unnoticed. Change the sizes
# as you like; the cells below name the weights and errors of four layers.
# `backprop.feedforward` returns all weighted inputs and activations.

# %%
sizes = (3, 5, 4, 2)
params_key, x_key = jax.random.split(jax.random.key(0))
params = mlp.init(params_key, sizes, biases=mlp.unit_normal)
x, y = jax.random.normal(x_key, sizes[:1]), jnp.zeros(sizes[-1]).at[0].set(1.0)
zs, below = backprop.feedforward(params, x)
for l, (layer, z) in enumerate(zip(params, zs, strict=True), start=2):
    print(f"w^{l} is {layer.w.shape[0]} x {layer.w.shape[1]}    z^{l} =", z)
print("a^4 =", mlp.forward(params, x), "and y =", y)

# %% [markdown]
# The quadratic cost of one example, `costs.quadratic`, measures how wrong the output is:
#
# $$C(x) = \tfrac{1}{2} \|y - a^L(x)\|^2 = \tfrac{1}{2} \sum_k (y_k - a_k^L)^2.$$
#
# Why is $\delta = \partial C / \partial z$ called an *error*? Its sign tells in which direction to change $z_j$. If it
# is positive, a smaller $z_j$ is better; if it is negative, a larger $z_j$ is better; and if it is near zero, a small
# change makes no difference. It is the slope of these curves:

# %%
deltas = backprop.errors(params, zs, y)
figure = Figure(figsize=(7, 3))
steps = jnp.linspace(-3, 3, 100)
for j, axes in enumerate(figure.subplots(1, len(y), sharey=True, squeeze=False)[0]):
    moved = zs[-1][None] + steps[:, None] * jnp.eye(len(y))[j][None]
    axes.plot(steps, costs.quadratic.value(moved, y[None]), label="$C$")
    axes.axline(
        (0, costs.quadratic.value(zs[-1], y)), slope=deltas[-1][j], color="C1", label=rf"slope $\delta^4_{j + 1}$"
    )
    axes.set(xlabel=rf"$\Delta z^4_{j + 1}$", title=rf"$\delta^4_{j + 1} = {deltas[-1][j]:.3f}$", ylim=(0, 0.9))
    axes.legend(loc="upper right")
figure

# %% [markdown]
# ### Step I: the errors of the last layer
#
# By the chain rule, through the only activation that depends on $z^L_j$:
#
# $$\delta_j^L = \frac{\partial C}{\partial a_j^L} \frac{\partial a_j^L}{\partial z_j^L}
# = \frac{\partial C}{\partial a_j^L}\, \sigma'(z_j^L) \tag{2.1}$$
#
# and for the quadratic cost $\partial C / \partial a_j^L = a_j^L - y_j$. In vector form, with a diagonal matrix:
#
# $$\delta^L = \operatorname{diag}\bigl(\sigma'(z_1^L), \ldots, \sigma'(z_k^L)\bigr)\, \nabla_{a^L} C \tag{2.2}$$
#
# This is `costs.quadratic.delta`; every cost has its own `delta`. (2.1) requires that $a_j$ depends on $z_j$ alone,
# which the notes do not mention; softmax, in [chapter 3](chapter_3.ipynb), couples all neurons of its layer.

# %%
by_components = (activations.sigmoid(zs[-1]) - y) * activations.sigmoid.prime(zs[-1])
by_matrix = jnp.diag(activations.sigmoid.prime(zs[-1])) @ (activations.sigmoid(zs[-1]) - y)
print("(2.1)   ", by_components)
print("(2.2)   ", by_matrix)
print("jnn     ", costs.quadratic.delta(zs[-1], y))
print("autodiff", jax.grad(costs.quadratic.value)(zs[-1], y))
np.testing.assert_allclose(by_components, jax.grad(costs.quadratic.value)(zs[-1], y), rtol=1e-5)
np.testing.assert_allclose(by_matrix, by_components, rtol=1e-6)

# %% [markdown]
# ### Step II: the errors of a layer from those of the next
#
# This step gave the algorithm its name. With $p$ neurons in layer $l$ and $q$ in layer $l+1$,
#
# $$\delta^l = \operatorname{diag}\bigl(\sigma'(z_1^l), \ldots, \sigma'(z_p^l)\bigr)\,
# (w^{l+1})^{\mathsf T}\, \delta^{l+1}. \tag{2.3}$$
#
# To derive it, consider how the cost depends on the activation $a^l_j$. It is an input of every neuron of the next
# layer, so all paths add up:
#
# $$\frac{\partial C}{\partial a_j^l} = \sum_{k=1}^q \delta_k^{l+1}\, \frac{\partial z_k^{l+1}}{\partial a_j^l}
# \tag{2.4}$$
#
# and since $z_k^{l+1} = \sum_i w_{ki}^{l+1} a_i^l + b_k^{l+1}$, the last factor is a weight:
#
# $$\frac{\partial C}{\partial a_j^l} = \sum_{k=1}^q \delta_k^{l+1}\, w_{kj}^{l+1}. \tag{2.5}$$
#
# One more factor leads from $a^l_j$ to $z^l_j$:
#
# $$\delta_j^l = \sigma'(z_j^l) \sum_{k=1}^q \delta_k^{l+1}\, w_{kj}^{l+1}, \tag{2.6}$$
#
# which is (2.3), written out. Here are both sides of (2.5) and (2.6) in the first hidden layer, $l = 2$. Autodiff
# differentiates the cost of the layers above with respect to $a^2$:

# %%
(_, w3, w4), (delta2, delta3, delta4) = (layer.w for layer in params), deltas
slope = jax.grad(lambda a: costs.quadratic.value(mlp.logits(params[1:], a), y))(below[1])
sums = jnp.array([sum(delta3[k] * w3[k, j] for k in range(w3.shape[0])) for j in range(w3.shape[1])])
print("dC/da^2 by autodiff", slope)
print("(2.5)              ", sums)
print("(2.6)              ", activations.sigmoid.prime(zs[0]) * sums)
print("backprop.errors    ", delta2)
np.testing.assert_allclose(sums, slope, rtol=1e-4, atol=1e-7)
np.testing.assert_allclose(activations.sigmoid.prime(zs[0]) * sums, delta2, rtol=1e-5)

# %% [markdown]
# In `backprop.errors` the equation is one line of code, tagged with its number:

# %%
print(inspect.getsource(backprop.errors).split('"""')[2].strip("\n"))

# %% [markdown]
# ### Steps III and IV: from errors to gradients
#
# The gradients with respect to biases and weights remain. $z^l_j$ contains $b^l_j$ as a term, so
#
# $$\frac{\partial C}{\partial b_j^l} = \frac{\partial C}{\partial z_j^l} \cdot \frac{\partial z_j^l}{\partial b_j^l}
# = \delta_j^l, \tag{2.7}$$
#
# and $w^l_{jk}$ multiplied by $a^{l-1}_k$:
#
# $$\frac{\partial C}{\partial w_{jk}^l} = \delta_j^l \cdot \frac{\partial}{\partial w_{jk}^l}
# \Bigl(\sum_i w_{ji}^l\, a_i^{l-1} + b_j^l\Bigr) = \delta_j^l\, a_k^{l-1}. \tag{2.8}$$
#
# (The sum runs over the neurons of layer $l-1$; the notes let it end at $p$, the size of layer $l$.) All together,
# the equations of backpropagation are
#
# $$\begin{aligned}
# \delta^L &= \nabla_{a^L} C \odot \sigma'(z^L) \\
# \delta^l &= \bigl((w^{l+1})^{\mathsf T} \delta^{l+1}\bigr) \odot \sigma'(z^l) \\
# \partial C / \partial b_j^l &= \delta_j^l \\
# \partial C / \partial w_{jk}^l &= a_k^{l-1}\, \delta_j^l
# \end{aligned} \tag{2.9}$$
#
# and `backprop.value_and_grad` computes them. Are they right? `gradcheck.compare` differentiates the cost by autodiff
# and by finite differences, in double precision, and compares every leaf.

# %%
value, grads = backprop.value_and_grad(params, x, y)
np.testing.assert_allclose(grads[1].b, delta3, rtol=1e-6)  # (2.7)
np.testing.assert_allclose(grads[1].w, jnp.outer(delta3, below[1]), rtol=1e-6)  # (2.8)
report = gradcheck.compare(
    lambda params, x, y: costs.quadratic.value(mlp.logits(params, x), y), backprop.value_and_grad, params, x, y
)
print(report)
assert report.ok

# %% [markdown]
# Would it detect a mistake? Here the factor $\sigma'$ of the hidden layers is missing, as if their neurons were linear:

# %%
forgetful = activations.Activation("sigma' forgotten", activations.sigmoid.value, jnp.ones_like)
wrong = gradcheck.compare(
    lambda params, x, y: costs.quadratic.value(mlp.logits(params, x), y),
    Partial(backprop.value_and_grad, hidden=forgetful),
    params,
    x,
    y,
)
print(wrong)
assert not wrong.ok

# %% [markdown]
# The gradient of the last layer is still right and that of every layer below is wrong: errors travel backwards.
#
# One network proves little. `backprop_check` draws random architectures and compares three ways to compute the gradient
# with autodiff, for several costs and activations, in single and double precision. What remains is rounding error.

# %%
figure, arrays = runner.show(backprop_check, networks=5, deepest=3)
figure

# %% [markdown]
# ## 2.2 Gradient descent with backpropagation
#
# So far the gradient was that of one example. Stochastic gradient descent takes the mean over a mini-batch of $m$
# examples:
#
# 1. For each example $x$, set $a^1(x) = x$ and
#    1. **feed forward**: for $l = 2, \ldots, L$ set $z^l(x) = w^l a^{l-1}(x) + b^l$ and $a^l(x) = \sigma(z^l(x))$;
#    2. **find the output error** $\delta^L(x) = \nabla_{a^L} C(x) \odot \sigma'(z^L(x))$;
#    3. **propagate it back**: for $l = L-1, \ldots, 2$ set
#       $\delta^l(x) = \bigl((w^{l+1})^{\mathsf T} \delta^{l+1}(x)\bigr) \odot \sigma'(z^l(x))$;
#    4. **read off the gradient**: $\delta^l_j(x)$ for the biases, $a_k^{l-1}(x)\, \delta^l_j(x)$ for the weights.
# 2. **Step down**: for $l = 2, \ldots, L$
#
# $$w^l \leftarrow w^l - \frac{\eta}{m} \sum_x \delta^l(x)\, (a^{l-1}(x))^{\mathsf T}, \qquad
# b^l \leftarrow b^l - \frac{\eta}{m} \sum_x \delta^l(x).$$
#
# (In the notes this last line lacks its minus signs, and the ranges of $l$ are upside down.)
#
# One example at a time would be slow. With the examples of a mini-batch as rows, each line is one matrix product for
# all of them: this is `backprop.minibatch_value_and_grad`. It equals the mean over the gradients of the examples:

# %%
(xs, labels), test = data.digits()
ys = data.one_hot(labels, 10)
reader = mlp.init(jax.random.key(1), (64, 30, 10))
_, each = jax.vmap(backprop.value_and_grad, in_axes=(None, 0, 0))(reader, xs[:10], ys[:10])
value, matrix_form = backprop.minibatch_value_and_grad(reader, xs[:10], ys[:10])
differences = jax.tree.map(lambda a, b: jnp.max(jnp.abs(jnp.mean(a, axis=0) - b)), each, matrix_form)
print("largest differences:", *(f"{difference:.0e}" for difference in jax.tree.leaves(differences)))
assert max(jax.tree.leaves(differences)) < 1e-6

# %% [markdown]
# `train.step` takes one step of gradient descent. It accepts any function that returns a value and a gradient, and its
# update is the formula above:

# %%
optimizer = train.sgd(3.0)
state, _ = train.step(backprop.minibatch_value_and_grad, optimizer, train.init(optimizer, reader), (xs[:10], ys[:10]))
np.testing.assert_allclose(state.params[1].w, reader[1].w - 3.0 * matrix_form[1].w, rtol=1e-5, atol=1e-7)
print(f"cost before {value:.4f}, after {backprop.minibatch_value_and_grad(state.params, xs[:10], ys[:10])[0]:.4f}")

# %% [markdown]
# `train.run` repeats this for every mini-batch of every epoch, in a new random order each epoch. The whole training run
# is one program:

# %%
state, history = train.run(
    jax.random.key(2),
    backprop.minibatch_value_and_grad,
    optimizer,
    train.init(optimizer, reader),
    (xs, ys),
    epochs=10,
    batch_size=10,
    evaluate=Partial(mlp.accuracy, xs=test.xs, labels=test.labels),
)
figure = Figure(figsize=(7, 2.8))
left, right = figure.subplots(1, 2)
left.semilogy(jnp.mean(history.losses, axis=1))
left.set(xlabel="epoch", ylabel="mean cost $C$")
right.plot(100 * history.metrics)
right.set(xlabel="epoch", ylabel="test accuracy / %")
print(f"test accuracy after {len(history.metrics)} epochs: {100 * history.metrics[-1]:.1f} %")
figure

# %% [markdown]
# Four equations are enough to train a network that reads digits. [Chapter 3](chapter_3.ipynb) makes it learn faster,
# and keeps it from overfitting.
