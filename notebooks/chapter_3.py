# %% [markdown]
# # Chapter 3: improving the way neural networks learn
#
# [Chapter 2](chapter_2.ipynb) derived the gradient. This chapter changes what it is the gradient *of*: costs whose
# gradient does not vanish when a network is badly wrong, outputs that are probabilities, and penalties, noise and early
# stopping against overfitting. ([Chapter 1](chapter_1.ipynb) explains how to run the notebooks.)

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
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from matplotlib import rcParams
from matplotlib.figure import Figure

from experiments import runner
from experiments.chapter_3 import (
    early_stopping,
    fig_3_1_binary_entropy,
    l2_spectrum,
    noise_is_l2,
    overfitting,
    slow_start,
    softmax_limit,
)
from jnn import activations, augment, backprop, costs, data, dropout, gradcheck, mlp, regularize, ridge, stopping

rcParams.update(runner.STYLE)
np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 3.1 The cross-entropy cost function
#
# For outputs $a_i = \sigma(z_i)$ and desired outputs $y_i$ between 0 and 1 the cross-entropy is
#
# $$C = -\frac{1}{m} \sum_{i=1}^m \bigl[y_i \ln a_i + (1 - y_i) \ln(1 - a_i)\bigr].$$
#
# In `jnn` it is `costs.cross_entropy`, computed from $z$, so that no logarithm of a rounded $\sigma(z)$ is ever taken.
# At $z = -1000$ the sigmoid rounds to 0, even in double precision, and the cost is still exact:

# %%
z, y = jnp.array([-1000.0]), jnp.array([1.0])
print("sigma(z) =", activations.sigmoid(z), "  C =", costs.cross_entropy.value(z, y))
assert costs.cross_entropy.value(z, y) == -z[0]

# %% [markdown]
# ### Exercise 3.1: the minimum of the cross-entropy
#
# *Show that the cross-entropy is minimal when $\sigma(z) = y$ for all inputs.*
#
# Its derivative is $\frac{\partial C}{\partial a_i} = \frac{1}{m} \frac{a_i - y_i}{a_i (1 - a_i)}$, which is zero only
# at $a_i = y_i$. The notes stop here; a minimum also requires that $C$ is convex, and it is:
# $y/a^2 + (1-y)/(1-a)^2 > 0$. For $y = 0$ and $y = 1$ there is no stationary point at all, and $C$ falls towards the
# boundary. For a $y$ in between, the minimal cost is not 0 but the **binary entropy**
#
# $$H(y) = -[y \ln y + (1-y) \ln(1-y)],$$
#
# which is `costs.binary_entropy` and **figure 3.1** of the notes. That figure is on the left; on the right is $C$ as a
# function of $a$, whose minima lie on $H$.

# %%
figure, arrays = runner.show(fig_3_1_binary_entropy)
figure

# %% [markdown]
# ### Exercise 3.2: why it learns faster
#
# *Find the partial derivatives of the cross-entropy in a network of many layers.*
#
# In the last layer, with $z_j^L = \sum_k w^L_{jk} a^{L-1}_k + b^L_j$ and $a_j^L = \sigma(z_j^L)$ (the notes give the
# sum for both),
#
# $$\frac{\partial C(x)}{\partial z_j^L} = \frac{a_j^L - y_j}{a_j^L (1 - a_j^L)}\, \sigma'(z_j^L) = a_j^L - y_j,
# \qquad \frac{\partial C}{\partial w_{jk}^L} = \frac{1}{n} \sum_x a_k^{L-1} (a_j^L - y_j).$$
#
# The factor $\sigma'$ cancels. With the quadratic cost it remains, so a neuron that is saturated at the wrong answer,
# where $\sigma'$ is nearly 0, hardly learns. The other steps of backpropagation are unchanged. The gradient by hand,
# compared with autodiff:

# %%
examples, sizes = 7, (3, 5, 2)
params = mlp.init(jax.random.key(0), sizes, biases=mlp.unit_normal)
xs = jax.random.normal(jax.random.key(1), (examples, sizes[0]))
ys = jax.random.uniform(jax.random.key(2), (examples, sizes[-1]))


def mean_cost(params, xs, ys, cost):
    return jnp.mean(cost.value(jax.vmap(mlp.logits, in_axes=(None, 0))(params, xs), ys))


report = gradcheck.compare(
    Partial(mean_cost, cost=costs.cross_entropy),
    Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy),
    params,
    xs,
    ys,
)
print(report)
assert report.ok

# %% [markdown]
# Nielsen's neuron has one input, 1, and learns to output 0, starting from $w = b = 2$, where it is saturated. On the
# left it learns; in the middle, many neurons learn from random initial values; on the right, whole networks whose
# output neurons are saturated at first.

# %%
figure, arrays = runner.show(slow_start, neurons=100, updates=2000, seeds=3)
figure

# %% [markdown]
# ### 3.1.1 Deriving the cross-entropy function
#
# The question can also be reversed. Take one neuron with inputs $x_1, \ldots, x_r$, and *require* the derivatives
#
# $$\frac{\partial C}{\partial w_j} = x_j (a - y) \tag{3.1}$$
#
# $$\frac{\partial C}{\partial b} = a - y. \tag{3.2}$$
#
# (In (3.1) the notes write $w_i$ for $w_j$.) Which cost has these derivatives? By the chain rule
#
# $$\frac{\partial C}{\partial b} = \frac{\partial C}{\partial a}\, \sigma'(z)
# = \frac{\partial C}{\partial a}\, a (1 - a), \tag{3.3}$$
#
# so that $\partial C / \partial a = (a - y) / (a (1 - a))$. Integrating over $a$ gives
# $C = -[y \ln a + (1-y) \ln(1-a)]$ plus a constant: only the cross-entropy has these derivatives. The three equations,
# checked on one neuron:

# %%
x, y = jnp.array([0.5, -1.0, 2.0, 0.1]), jnp.array([0.3])
(neuron,) = mlp.init(jax.random.key(3), (len(x), 1))
a = mlp.forward((neuron,), x)
_, (slopes,) = backprop.value_and_grad((neuron,), x, y, cost=costs.cross_entropy)
by_a = jax.grad(lambda a: -jnp.sum(y * jnp.log(a) + (1 - y) * jnp.log(1 - a)))(a)
print("(3.1)", x * (a - y), " jnn", slopes.w[0])
print("(3.2)", a - y, " jnn", slopes.b)
print("(3.3)", by_a * a * (1 - a))
np.testing.assert_allclose(slopes.w[0], x * (a - y), rtol=1e-5)
np.testing.assert_allclose(slopes.b, by_a * a * (1 - a), rtol=1e-5)

# %% [markdown]
# ## 3.2 Softmax
#
# If exactly one of $J$ classes is correct, the outputs should be probabilities:
#
# $$a_j^L = \frac{e^{z_j^L}}{\sum_{i=1}^J e^{z_i^L}}, \qquad C(x, y) = -\ln a_r^L \quad \text{for the class } r.$$
#
# These are `activations.softmax` and `costs.log_likelihood`. The derivatives with respect to the biases are
#
# $$\frac{\partial C}{\partial b_r^L} = -\frac{1}{a_r^L} \bigl[a_r^L - (a_r^L)^2\bigr] = a_r^L - 1 \tag{3.4}$$
#
# for the correct class, and for every other class, $j \ne r$,
#
# $$\frac{\partial C}{\partial b_j^L} = -\frac{1}{a_r^L} \bigl[0 - a_r^L a_j^L\bigr] = a_j^L. \tag{3.5}$$
#
# With $y_r = 1$ and $y_j = 0$ both have the same form, and the weights follow as in (2.8):
#
# $$\frac{\partial C}{\partial b_j^L} = a_j^L - y_j \tag{3.6}$$
#
# $$\frac{\partial C}{\partial w_{jk}^L} = a_k^{L-1} (a_j^L - y_j). \tag{3.7}$$
#
# The error is the same as for the cross-entropy, with another activation and another cost. (Softmax couples its
# neurons, so $\sigma'$ in (2.1) becomes the matrix $\operatorname{diag}(a) - a a^{\mathsf T}$,
# `activations.softmax_jacobian`.)

# %%
r, classes, x = 2, 4, jnp.array([0.2, -0.7, 1.1])
y = data.one_hot(jnp.array([r]), classes)[0]
net = mlp.init(jax.random.key(4), (len(x), 6, classes), biases=mlp.unit_normal)
zs, below = backprop.feedforward(net, x)
a = activations.softmax(zs[-1])
_, grads = backprop.value_and_grad(net, x, y, cost=costs.log_likelihood)
print("a                   ", a, "and r =", r)
print("(3.4), (3.5), by jnn", grads[-1].b)
print("(3.6)               ", a - y)
print("(2.1), with Jacobian", activations.softmax_jacobian(zs[-1]) @ (-y / a))
np.testing.assert_allclose(grads[-1].b, a - y, rtol=1e-5)
np.testing.assert_allclose(grads[-1].w, jnp.outer(a - y, below[-1]), rtol=1e-5)  # (3.7)

# %% [markdown]
# ### Exercise 3.3: the origin of the name softmax
#
# *What is the limit of $a_j = e^{c z_j} / \sum_i e^{c z_i}$ as $c \to \infty$?*
#
# Divide numerator and denominator by $e^{c z_r}$ for the largest $z_r$: the remaining terms $e^{c (z_i - z_r)}$ vanish
# unless $z_i$ is largest, too. So softmax is the soft version of "1 for the maximum, 0 for the others". The notes do
# not mention ties: if $k$ neurons share the maximum, the limit of each is $1/k$. (`activations.softmax(z, c)` subtracts
# the largest $z$ in the same way, so that nothing overflows.)

# %%
figure, arrays = runner.show(softmax_limit)
figure

# %% [markdown]
# ## 3.3 Regularisation
#
# A network with more parameters than examples can memorise its examples, and then performs badly on new ones.
# Regularisation counteracts this. The classical way is to penalise large weights. The $p$-norm measures the size of
# $w \in \mathbb{R}^d$, for a real $p \ge 1$,
#
# $$\|w\|_p = \bigl(|w_1|^p + \cdots + |w_d|^p\bigr)^{1/p}, \tag{3.8}$$
#
# whose $p$ the notes omit on the left-hand side. It is `regularize.lp_norm`. The vectors of norm 1 in the plane:

# %%
figure = Figure(figsize=(3.4, 3.2))
axes = figure.subplots()
grid = jnp.linspace(-1.2, 1.2, 121)
points = jnp.stack(jnp.meshgrid(grid, grid), axis=-1)
for i, p in enumerate((1.0, 1.5, 2.0, 4.0, np.inf)):
    norms = jax.vmap(jax.vmap(functools.partial(regularize.lp_norm, p=p)))(points)
    axes.contour(grid, grid, norms, levels=[1.0], colors=f"C{i}")
    axes.plot([], [], color=f"C{i}", label=f"$p = {p:g}$".replace("inf", r"\infty"))
axes.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
axes.legend(fontsize="small", loc="center")
figure

# %% [markdown]
# L1 adds $\alpha \|w\|_1$ to the cost, L2 adds $\frac{\alpha}{2} \|w\|_2^2$; biases are not penalised.
# `regularize.penalised` converts any gradient to that of the regularised cost:

# %%
l1, l2 = regularize.l1(0.01), regularize.l2(0.1)
report = gradcheck.compare(
    lambda params, xs, ys: mean_cost(params, xs, ys, costs.cross_entropy) + l1.value(params) + l2.value(params),
    regularize.penalised(Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy), l1, l2),
    params,
    xs,
    ys,
)
print(report)
assert report.ok

# %% [markdown]
# ### 3.3.1 What L2 does to the optimum
#
# Let $w^\star$ be the minimum of the loss $\mathcal{L}$ alone, and $H$ its Hessian there. Near $w^\star$, the Taylor
# series to second order is
#
# $$\mathcal{L}(w^\star + \epsilon) = \mathcal{L}(w^\star) + \epsilon^{\mathsf T} \nabla \mathcal{L}(w^\star)
# + \tfrac{1}{2} \epsilon^{\mathsf T} H\, \epsilon \tag{3.9}$$
#
# where the middle term is 0, and the gradient is therefore
#
# $$\nabla \mathcal{L}(w) = H\, (w - w^\star). \tag{3.10}$$
#
# Both are exact for a quadratic loss and approximate for others. ($H$ is symmetric if the loss is twice continuously
# differentiable; the notes require only continuity, which is not enough.) The optimum $\tilde w$ of the regularised
# loss satisfies
#
# $$0 = \nabla \mathcal{L}(\tilde w) + \alpha \tilde w, \tag{3.11}$$
#
# and with (3.10) it is
#
# $$\tilde w = (H + \alpha I)^{-1} H\, w^\star. \tag{3.12}$$
#
# Now write $H = Q \Lambda Q^{\mathsf T}$, with the eigenvectors as columns of $Q$ and the eigenvalues in $\Lambda$:
#
# $$\tilde w = Q \operatorname{diag}\Bigl(\frac{\lambda_1}{\lambda_1 + \alpha}, \ldots,
# \frac{\lambda_d}{\lambda_d + \alpha}\Bigr) Q^{\mathsf T} w^\star. \tag{3.13}$$
#
# In words: rotate $w^\star$ to the eigenvectors of the Hessian, shrink each component by its own factor, and rotate
# back. Where the loss is steep, $\lambda_i \gg \alpha$, the component hardly changes; where it is flat, it tends to 0.
# `ridge.solve` is (3.12), `ridge.solve_spectral` is (3.13), and `ridge.shrinkage` returns the factors. For a linear
# regression:

# %%
x_key, noise_key, w_key = jax.random.split(jax.random.key(5), 3)
inputs = jax.random.normal(x_key, (50, 4)) * jnp.array([0.1, 0.5, 1.0, 3.0])[None]
answers = inputs @ jnp.array([2.0, -1.0, 1.0, 0.5]) + 0.3 * jax.random.normal(noise_key, (50,))


def loss(w):
    return jnp.mean((inputs @ w - answers) ** 2) / 2


w_star, alpha = jnp.linalg.lstsq(inputs, answers)[0], 0.3
hessian = jax.hessian(loss)(w_star)
w, w_tilde = jax.random.normal(w_key, w_star.shape), ridge.solve(hessian, w_star, alpha)
second_order = loss(w_star) + (w - w_star) @ hessian @ (w - w_star) / 2
print(f"(3.9)   L(w) = {loss(w):.4f} and {second_order:.4f}")
print("(3.10) ", jax.grad(loss)(w), "and", hessian @ (w - w_star))
print(f"(3.11)  |grad L + alpha w~| = {jnp.linalg.norm(jax.grad(loss)(w_tilde) + alpha * w_tilde):.0e}")
print("(3.12) ", w_tilde)
print("(3.13) ", ridge.solve_spectral(hessian, w_star, alpha))
print("factors", ridge.shrinkage(jnp.linalg.eigvalsh(hessian), alpha))
np.testing.assert_allclose(loss(w), second_order, rtol=1e-4)
np.testing.assert_allclose(jax.grad(loss)(w), hessian @ (w - w_star), rtol=1e-3, atol=1e-5)
np.testing.assert_allclose(jax.grad(loss)(w_tilde), -alpha * w_tilde, atol=1e-4)
np.testing.assert_allclose(w_tilde, ridge.solve_spectral(hessian, w_star, alpha), atol=1e-5)

# %% [markdown]
# The loss of a network is not quadratic. How accurate is (3.13) there? On the left is a quadratic loss, for which
# gradient descent ends on the curve. In the middle and on the right are networks that read digits. The prediction is
# good for small $\alpha$. For larger $\alpha$ it remains fair without a hidden layer, where the loss is convex; with a
# hidden layer its error soon is a large part of the change of the weights itself.

# %%
figure, arrays = runner.show(l2_spectrum, seeds=1, examples=300, steps=500, ratios=(0.01, 0.1, 1.0))
figure

# %% [markdown]
# ### 3.3.2 Other methods
#
# #### Early stopping
#
# Monitor the error on held-out images, and stop when it no longer falls. The *error change criterion*,
# `stopping.error_change`, stops when no error in a window of, say, 10 epochs is below the lowest error before the
# window, optionally after some further epochs. The *weight change criterion*, `stopping.weight_change`, stops when the
# weights hardly change:
#
# $$\max_i \bigl\|w_i^{(t-10)} - w_i^{(t)}\bigr\| \le \rho,$$
#
# or the same relative to the size of $w_i^{(t)}$. A criterion is a pair of pure functions. Here is one, step by step:

# %%
criterion = stopping.error_change(window=3)
state = criterion.init(None)
for epoch, error in enumerate((0.5, 0.3, 0.2, 0.25, 0.22, 0.21, 0.1), start=1):
    state, stop = criterion.update(state, None, jnp.asarray(error))
    print(f"epoch {epoch}: error {error:<4} {'stop' if stop else 'continue'}")
    if stop:
        break

# %% [markdown]
# No criterion knows the errors of the epochs that it leaves out. How much does that cost networks that learn a few
# hundred digits? A cross marks the epoch whose parameters are kept.

# %%
figure, arrays = runner.show(early_stopping, data="digits", examples=300, epochs=100, windows=(8, 16), seeds=8)
figure

# %% [markdown]
# #### Dataset augmentation
#
# A 3 that is slightly shifted, rotated, distorted or blurred is still a 3, and a new example. `jnn.augment` has a
# function for each transformation, which takes a key and an image, and transforms the images of every training step at
# random. `augment.distort` combines most of the transformations. Here are a 3 and some random variations:

# %%
(images, labels), _ = data.digits()
three = images[jnp.argmax(labels == 3)].reshape(8, 8)
picture = functools.partial(augment.distort, rotate=12.0, scale=0.15, shear=0.1, shift=0.5, elastic=0.3)
keys = jax.random.split(jax.random.key(9), 7)
drawn = jax.vmap(picture, in_axes=(0, None))(keys, three)
figure = Figure(figsize=(8, 1.1))
for axes, image in zip(figure.subplots(1, 1 + len(drawn)), (three, *drawn), strict=True):
    axes.imshow(image, cmap="Greys", vmin=0, vmax=1)
    axes.set_axis_off()
figure

# %% [markdown]
# `python -m experiments augmentation_gallery` shows all of them on the larger digits of MNIST, and how well networks
# read test images after each transformation. The notes list mirroring among the transformations that keep the label.
# That is true of cats; networks read mirrored digits worst of all:
#
# ![Digits under each transform, with the accuracy of networks that never saw it](../figures/augmentation_gallery.png)
#
# *Mixup* mixes two examples, and their desired outputs, in the same proportion $\lambda \in [0, 1]$:
#
# $$\tilde x = \lambda x^{(i)} + (1 - \lambda) x^{(j)} \tag{3.14}$$
#
# $$\tilde y = \lambda y^{(i)} + (1 - \lambda) y^{(j)}. \tag{3.15}$$
#
# `regularize.mix` computes both; `regularize.mixup` mixes whole mini-batches with random $\lambda$.

# %%
zero, four = jnp.argmax(labels == 0), jnp.argmax(labels == 4)
lam = jnp.linspace(0, 1, 6)
x_tilde = regularize.mix(lam, images[zero][None], images[four][None])
y_tilde = regularize.mix(lam, *data.one_hot(jnp.array([[0], [4]]), 10))
np.testing.assert_allclose(y_tilde[:, 0], lam, atol=1e-6)
np.testing.assert_allclose(x_tilde[2], lam[2] * images[zero] + (1 - lam[2]) * images[four], atol=1e-6)
figure = Figure(figsize=(8, 1.7))
for axes, image, share in zip(figure.subplots(1, len(lam)), x_tilde, y_tilde, strict=True):
    axes.imshow(image.reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
    axes.set_title(f"{100 * share[0]:.0f} % a 0, {100 * share[4]:.0f} % a 4", fontsize="small")
    axes.set_axis_off()
figure

# %% [markdown]
# #### Noise injection
#
# Noise can be added to inputs, labels, gradients or weights during training (`regularize.input_noise`, `label_noise`,
# `gradient_noise`, `weight_noise`). The notes derive the effect of noise $\epsilon \sim N(0, \sigma^2 I)$ on the inputs
# of a linear model. Its components are independent:
#
# $$E[\epsilon_i \epsilon_j] = \begin{cases} 0 & i \ne j \\ \sigma^2 & i = j. \end{cases} \tag{3.16}$$
#
# The expected squared loss, over a density $f_{X,Y}$ (whose values may exceed 1, unlike in the notes), is
#
# $$\mathcal{L}(w) = E\bigl[(w^{\mathsf T} x - y)^2\bigr] = \iint (w^{\mathsf T} x - y)^2 f_{X,Y}(x, y)\, dy\, dx
# \tag{3.17}$$
#
# and with noise it becomes
#
# $$\tilde{\mathcal{L}}(w) = \iint E_\epsilon\bigl[(w^{\mathsf T} (x + \epsilon) - y)^2 \mid (x, y)\bigr]
# f_{X,Y}(x, y)\, dy\, dx. \tag{3.18}$$
#
# Expand the square,
#
# $$\tilde{\mathcal{L}}(w) = \iint \bigl[(w^{\mathsf T} x - y)^2 + 2 (w^{\mathsf T} x - y)\, E[w^{\mathsf T} \epsilon]
# + E[(w^{\mathsf T} \epsilon)^2]\bigr] f_{X,Y}(x, y)\, dy\, dx, \tag{3.19}$$
#
# and of the two new terms the first vanishes and the second is simple:
#
# $$E[w^{\mathsf T} \epsilon] = E[w_1 \epsilon_1 + \cdots + w_d \epsilon_d] = 0 \tag{3.20}$$
#
# $$E[(w^{\mathsf T} \epsilon)^2] = \sum_{i=1}^d w_i^2 \sigma^2 = \sigma^2 \sum_{i=1}^d w_i^2. \tag{3.21}$$
#
# So the loss with noise is
#
# $$\tilde{\mathcal{L}}(w) = \mathcal{L}(w) + \sigma^2 \sum_{i=1}^d w_i^2, \tag{3.22}$$
#
# which is L2 with $\alpha = 2 \sigma^2$. `regularize.noisy_squared_loss` is (3.22). With many samples of the noise:

# %%
sigma = 0.3
epsilon = regularize.noise(jax.random.key(6), jnp.zeros((2000, *inputs.shape)), sigma)
noisy = jnp.mean(((inputs[None] + epsilon) @ w - answers[None]) ** 2)
epsilon = epsilon.reshape(-1, len(w))
print(f"(3.16)  sigma^2 = {sigma**2:.4f}; E[eps_i eps_j] =\n{epsilon.T @ epsilon / len(epsilon)}")
print(f"(3.17)  L  = {2 * loss(w):.4f}")
print(f"(3.18)  L~ = {noisy:.4f}")
print(f"(3.20)  E[w.eps] = {jnp.mean(epsilon @ w):.4f}")
print(f"(3.21)  E[(w.eps)^2] = {jnp.mean((epsilon @ w) ** 2):.4f} and {sigma**2 * jnp.sum(w**2):.4f}")
print(f"(3.22)  L~ = {regularize.noisy_squared_loss(w, inputs, answers, sigma):.4f}")
np.testing.assert_allclose(epsilon.T @ epsilon / len(epsilon), sigma**2 * np.eye(len(w)), atol=0.003)
np.testing.assert_allclose(jnp.mean((epsilon @ w) ** 2), sigma**2 * jnp.sum(w**2), rtol=0.03)
np.testing.assert_allclose(noisy, regularize.noisy_squared_loss(w, inputs, answers, sigma), rtol=0.01)

# %% [markdown]
# The same holds for trained models: the weights of regressions on noisy inputs scatter around (3.12) with
# $\alpha = 2\sigma^2$. But it holds for linear models only. On the right, noise raises the cost of a network by an
# amount that no such rule predicts.

# %%
figure, arrays = runner.show(noise_is_l2, sigmas=(0.1, 0.3, 1.0), seeds=30, draws=1000, network_epochs=10)
figure

# %% [markdown]
# #### Dropout
#
# In every step, each hidden neuron is dropped with probability $p$: its activation is 0, and so is its error. No neuron
# can then rely on any particular other neuron. At test time all neurons are active, so the inputs of the next layer
# would be too large. To compensate, activations are scaled by $1 - p$, the fraction that was kept; the notes scale by
# $p$, which is right only for $p = 1/2$. `dropout.minibatch_value_and_grad` trains, and `dropout.at_test` scales. The
# weighted input of a neuron in the next layer, averaged over many masks and scaled:

# %%
p = 0.2
layers = mlp.init(jax.random.key(7), (3, 50, 1))
x = jnp.ones(layers[0].w.shape[1])
hidden = activations.sigmoid(layers[0].w @ x + layers[0].b)
masks = dropout.mask(jax.random.key(8), (20_000, *hidden.shape), p)
dropped = jnp.mean((masks * hidden[None]) @ layers[1].w[0])
at_test = mlp.logits(dropout.at_test(layers, p), x)[0]
print(f"kept {jnp.mean(masks):.3f} of the neurons; mean z {dropped:.3f}, scaled by 1 - p {at_test:.3f}")
print(f"scaled by p, as in the notes: {p / (1 - p) * at_test:.3f}")
np.testing.assert_allclose(dropped, at_test, atol=0.02)

# %% [markdown]
# #### All methods compared
#
# Which methods help? Networks learn a few digits, with each method alone. On such a small set, and with strengths
# chosen for MNIST, most of the differences are within the standard error.

# %%
figure, arrays = runner.show(overfitting, data="digits", examples=200, epochs=60, seeds=3)
figure

# %% [markdown]
# They become clear on MNIST, with `python -m experiments overfitting`: all but mixup and early stopping help, and
# augmentation helps by far the most.
#
# ![Accuracies on 1,000 images of MNIST, with each method alone](../figures/overfitting.png)
#
# So far networks have been trained. [Chapter 4](chapter_4.ipynb) constructs them without training, for any function.
