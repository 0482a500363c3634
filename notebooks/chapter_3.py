# %% [markdown]
# # Chapter 3: improving the way neural networks learn
#
# [Chapter 2](chapter_2.ipynb) has the gradient. This chapter changes what it is the gradient *of*: costs that do not
# slow down when a network is badly wrong, outputs that are probabilities, and penalties, noise and patience that keep
# a network from learning its examples by heart. (How to run this: see [chapter 1](chapter_1.ipynb).)

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
# At $z = -1000$ the sigmoid is 0, in double precision too; the cost is 1000 all the same:

# %%
z, y = jnp.array([-1000.0]), jnp.array([1.0])
print("sigma(z) =", activations.sigmoid(z), "  C =", costs.cross_entropy.value(z, y))
assert costs.cross_entropy.value(z, y) == 1000

# %% [markdown]
# ### Exercise 3.1: where the cross-entropy is least
#
# *Show that the cross-entropy is minimal when $\sigma(z) = y$ for all inputs.*
#
# Its slope is $\frac{\partial C}{\partial a_i} = \frac{1}{m} \frac{a_i - y_i}{a_i (1 - a_i)}$, which is zero at
# $a_i = y_i$ only. The notes stop here; for a minimum one also needs that $C$ is convex, and it is:
# $y/a^2 + (1-y)/(1-a)^2 > 0$. For $y = 0$ and $y = 1$ there is no stationary point at all, and $C$ falls towards the
# boundary. And for a $y$ in between the least cost is not 0. It is the **binary entropy**
#
# $$H(y) = -[y \ln y + (1-y) \ln(1-y)],$$
#
# `costs.binary_entropy`, which the notes draw as **figure 3.1**. On the left is that figure; on the right, $C$ as a
# function of $a$, with its minima lying on $H$.

# %%
figure, arrays = runner.show(fig_3_1_binary_entropy)
figure

# %% [markdown]
# ### Exercise 3.2: why it learns faster
#
# *Find the partial derivatives of the cross-entropy in a network of many layers.*
#
# In the last layer, with $z_j^L = \sum_k w^L_{jk} a^{L-1}_k + b^L_j$ and $a_j^L = \sigma(z_j^L)$ (the notes write the
# sum for both),
#
# $$\frac{\partial C(x)}{\partial z_j^L} = \frac{a_j^L - y_j}{a_j^L (1 - a_j^L)}\, \sigma'(z_j^L) = a_j^L - y_j,
# \qquad \frac{\partial C}{\partial w_{jk}^L} = \frac{1}{n} \sum_x a_k^{L-1} (a_j^L - y_j).$$
#
# The factor $\sigma'$ has cancelled. The quadratic cost keeps it, so a neuron that is sure of the wrong answer, where
# $\sigma'$ is nearly 0, hardly learns. Below it all, backpropagation stays as it was. By hand against autodiff:

# %%
params = mlp.init(jax.random.key(0), (3, 5, 2), biases=mlp.unit_normal)
xs, ys = jax.random.normal(jax.random.key(1), (7, 3)), jax.random.uniform(jax.random.key(2), (7, 2))


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
# Nielsen's neuron has one input, 1, and shall learn to answer 0. From $w = b = 2$ it answers 0.98 at first. On the left
# it learns; in the middle many neurons do, from random starts; on the right whole networks, whose output neurons start
# out saturated.

# %%
figure, arrays = runner.show(slow_start, neurons=100, updates=2000, seeds=3)
figure

# %% [markdown]
# ### 3.1.1 Deriving the cross-entropy function
#
# One can also turn the question round. Take one neuron with inputs $x_1, \ldots, x_r$, and *wish* for the slopes
#
# $$\frac{\partial C}{\partial w_j} = x_j (a - y) \tag{3.1}$$
#
# $$\frac{\partial C}{\partial b} = a - y. \tag{3.2}$$
#
# (In (3.1) the notes write $w_i$ for $w_j$.) Which cost has them? By the chain rule
#
# $$\frac{\partial C}{\partial b} = \frac{\partial C}{\partial a}\, \sigma'(z)
# = \frac{\partial C}{\partial a}\, a (1 - a), \tag{3.3}$$
#
# so that $\partial C / \partial a = (a - y) / (a (1 - a))$, and to integrate that over $a$ gives
# $C = -[y \ln a + (1-y) \ln(1-a)]$ and a constant: it is the cross-entropy and no other. The three, checked on one
# neuron with four inputs:

# %%
(neuron,) = mlp.init(jax.random.key(3), (4, 1))
x, y = jnp.array([0.5, -1.0, 2.0, 0.1]), jnp.array([0.3])
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
# Where exactly one of $J$ classes is right, let the outputs be probabilities:
#
# $$a_j^L = \frac{e^{z_j^L}}{\sum_{i=1}^J e^{z_i^L}}, \qquad C(x, y) = -\ln a_r^L \quad \text{for the class } r.$$
#
# These are `activations.softmax` and `costs.log_likelihood`. By the biases, the slopes are
#
# $$\frac{\partial C}{\partial b_r^L} = -\frac{1}{a_r^L} \bigl[a_r^L - (a_r^L)^2\bigr] = a_r^L - 1 \tag{3.4}$$
#
# for the right class, and for every other, $j \ne r$,
#
# $$\frac{\partial C}{\partial b_j^L} = -\frac{1}{a_r^L} \bigl[0 - a_r^L a_j^L\bigr] = a_j^L. \tag{3.5}$$
#
# With $y_r = 1$ and $y_j = 0$ both are one formula, and the weights follow as in (2.8):
#
# $$\frac{\partial C}{\partial b_j^L} = a_j^L - y_j \tag{3.6}$$
#
# $$\frac{\partial C}{\partial w_{jk}^L} = a_k^{L-1} (a_j^L - y_j). \tag{3.7}$$
#
# The same error as with the cross-entropy, from another activation and another cost. (Softmax couples its neurons, so
# $\sigma'$ in (2.1) becomes the matrix $\operatorname{diag}(a) - a a^{\mathsf T}$, `activations.softmax_jacobian`.)

# %%
net = mlp.init(jax.random.key(4), (3, 6, 4), biases=mlp.unit_normal)
x, y = jnp.array([0.2, -0.7, 1.1]), data.one_hot(jnp.array([2]), 4)[0]
zs, below = backprop.feedforward(net, x)
a = activations.softmax(zs[-1])
_, grads = backprop.value_and_grad(net, x, y, cost=costs.log_likelihood)
print("a                   ", a, "and r = 2")
print("(3.4), (3.5), by jnn", grads[-1].b)
print("(3.6)               ", a - y)
print("(2.1), with Jacobian", activations.softmax_jacobian(zs[-1]) @ (-y / a))
np.testing.assert_allclose(grads[-1].b, a - y, rtol=1e-5)
np.testing.assert_allclose(grads[-1].w, jnp.outer(a - y, below[-1]), rtol=1e-5)  # (3.7)

# %% [markdown]
# ### Exercise 3.3: where softmax has its name from
#
# *What is the limit of $a_j = e^{c z_j} / \sum_i e^{c z_i}$ as $c \to \infty$?*
#
# Take the largest, $z_r$, out of numerator and denominator: all that is left are terms $e^{c (z_i - z_r)}$, which
# vanish unless $z_i$ is largest, too. So softmax is the soft version of "1 for the maximum, 0 for the others". The
# notes leave out the tie: if $k$ neurons share the maximum, each gets $1/k$. (`activations.softmax(z, c)` takes the
# largest out in the same way, so that nothing overflows.)

# %%
figure, arrays = runner.show(softmax_limit)
figure

# %% [markdown]
# ## 3.3 Regularization
#
# A network with more parameters than examples can learn its examples by heart, and then reads new ones badly.
# Regularization is what we do against it. The classical way is to make large weights cost something. The size of
# $w \in \mathbb{R}^d$ is measured by the $p$-norm, for a real $p \ge 1$,
#
# $$\|w\|_p = \bigl(|w_1|^p + \cdots + |w_d|^p\bigr)^{1/p}, \tag{3.8}$$
#
# whose $p$ the notes leave out on the left-hand side. It is `regularize.lp_norm`. The vectors of norm 1 in the plane:

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
# L1 adds $\alpha \|w\|_1$ to the cost, L2 adds $\frac{\alpha}{2} \|w\|_2^2$; biases go free. Any gradient of ours
# becomes that of the regularised cost by `regularize.penalised`:

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
# Let $w^\star$ be where the loss $\mathcal{L}$ alone is least, and $H$ its Hessian there. Near $w^\star$, Taylor's
# series to second order is
#
# $$\mathcal{L}(w^\star + \epsilon) = \mathcal{L}(w^\star) + \epsilon^{\mathsf T} \nabla \mathcal{L}(w^\star)
# + \tfrac{1}{2} \epsilon^{\mathsf T} H\, \epsilon \tag{3.9}$$
#
# where the middle term is 0, and the gradient is therefore
#
# $$\nabla \mathcal{L}(w) = H\, (w - w^\star). \tag{3.10}$$
#
# Both are exact for a quadratic loss and approximate for others. (That $H$ is symmetric takes a loss that is twice
# continuously differentiable; the notes ask for continuity, which is not enough.) The optimum $\tilde w$ of the
# regularised loss is where
#
# $$0 = \nabla \mathcal{L}(\tilde w) + \alpha \tilde w, \tag{3.11}$$
#
# and with (3.10) that is
#
# $$\tilde w = (H + \alpha I)^{-1} H\, w^\star. \tag{3.12}$$
#
# Now write $H = Q \Lambda Q^{\mathsf T}$ with its eigenvectors as columns of $Q$ and its eigenvalues in $\Lambda$:
#
# $$\tilde w = Q \operatorname{diag}\Bigl(\frac{\lambda_1}{\lambda_1 + \alpha}, \ldots,
# \frac{\lambda_d}{\lambda_d + \alpha}\Bigr) Q^{\mathsf T} w^\star. \tag{3.13}$$
#
# In words: turn $w^\star$ to the axes of the Hessian, shrink each component by its own factor, turn back. Where the
# loss is steep, $\lambda_i \gg \alpha$, the component stays; where it is flat it goes to 0. `ridge.solve` is
# (3.12), `ridge.solve_spectral` is (3.13), and `ridge.shrinkage` has the factors. On a linear regression:

# %%
x_key, noise_key, w_key = jax.random.split(jax.random.key(5), 3)
inputs = jax.random.normal(x_key, (50, 4)) * jnp.array([0.1, 0.5, 1.0, 3.0])[None]
answers = inputs @ jnp.array([2.0, -1.0, 1.0, 0.5]) + 0.3 * jax.random.normal(noise_key, (50,))


def loss(w):
    return jnp.mean((inputs @ w - answers) ** 2) / 2


hessian = jax.hessian(loss)(jnp.zeros(4))
w_star, alpha = jnp.linalg.lstsq(inputs, answers)[0], 0.3
w, w_tilde = jax.random.normal(w_key, (4,)), ridge.solve(hessian, w_star, alpha)
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
# A network's loss is not quadratic. How far can one trust (3.13) there? On the left is a quadratic loss, where gradient
# descent lands on the curve. In the middle and on the right are networks that read digits. The prediction is good while
# $\alpha$ is small. For a larger one it is still fair without a hidden layer, which makes the loss convex; with one it
# soon misses by a large part of the move itself.

# %%
figure, arrays = runner.show(l2_spectrum, seeds=1, examples=300, steps=500, ratios=(0.01, 0.1, 1.0))
figure

# %% [markdown]
# ### 3.3.2 Other methods
#
# #### Early stopping
#
# Watch the error on images that are not trained on, and stop when it no longer falls. The *error change criterion*,
# `stopping.error_change`, stops when no error in a window of, say, 10 epochs is below the lowest before, perhaps with
# some further epochs. The *weight change criterion*, `stopping.weight_change`, stops when the weights are at rest:
#
# $$\max_i \bigl\|w_i^{(t-10)} - w_i^{(t)}\bigr\| \le \rho,$$
#
# or that over the size of $w_i^{(t)}$. Each is two pure functions, so it can be fed by hand; here a window of three:

# %%
criterion = stopping.error_change(window=3)
epoch, watch = 0, criterion.init(None)
for epoch, error in enumerate((0.5, 0.3, 0.2, 0.25, 0.22, 0.21, 0.1), start=1):
    watch, stop = criterion.update(watch, None, jnp.asarray(error))
    print(f"epoch {epoch}: error {error:<4} {'stop' if stop else 'go on'}")
    if stop:
        break
assert epoch == 6

# %% [markdown]
# That it would have reached 0.1 next is the price of not knowing the future. How high is it, for networks that learn
# 300 digits? A cross marks the epoch whose parameters are kept.

# %%
figure, arrays = runner.show(early_stopping, data="digits", examples=300, epochs=100, windows=(8, 16), seeds=8)
figure

# %% [markdown]
# #### Dataset augmentation
#
# A 3 that is shifted, turned, bent or blurred a little is still a 3, and a new example. `jnn.augment` has a function
# for each, from a key and an image to an image, and draws anew in every step of a training. `augment.distort` does
# most of them at once. Here is a 3, and seven new ones:

# %%
(images, labels), _ = data.digits()
three = images[jnp.argmax(labels == 3)].reshape(8, 8)
picture = functools.partial(augment.distort, rotate=12.0, scale=0.15, shear=0.1, shift=0.5, elastic=0.3)
keys = jax.random.split(jax.random.key(9), 7)
drawn = jax.vmap(picture, in_axes=(0, None))(keys, three)
figure = Figure(figsize=(8, 1.1))
for axes, image in zip(figure.subplots(1, 8), (three, *drawn), strict=True):
    axes.imshow(image, cmap="Greys", vmin=0, vmax=1)
    axes.set_axis_off()
figure

# %% [markdown]
# `python -m experiments augmentation_gallery` shows all of them on the larger digits of MNIST, and how well networks
# read test images that were changed in each way. The notes count mirroring among what keeps the label. Of cats, yes;
# mirrored digits, by contrast, are read worst of all:
#
# ![Digits under each transform, with the accuracy of networks that never saw it](../figures/augmentation_gallery.png)
#
# *Mixup* is bolder. It mixes two examples, and their desired outputs in the same proportion $\lambda \in [0, 1]$:
#
# $$\tilde x = \lambda x^{(i)} + (1 - \lambda) x^{(j)} \tag{3.14}$$
#
# $$\tilde y = \lambda y^{(i)} + (1 - \lambda) y^{(j)}. \tag{3.15}$$
#
# `regularize.mix` is both, `regularize.mixup` does it to whole mini-batches with random $\lambda$.

# %%
one, other = int(jnp.argmax(labels == 0)), int(jnp.argmax(labels == 4))
lam = jnp.linspace(0, 1, 6)
x_tilde = regularize.mix(lam, images[one][None], images[other][None])
y_tilde = regularize.mix(lam, *(data.one_hot(labels[i : i + 1], 10) for i in (one, other)))
np.testing.assert_allclose(y_tilde[:, 0], lam, atol=1e-6)
np.testing.assert_allclose(x_tilde[2], 0.4 * images[one] + 0.6 * images[other], atol=1e-6)
figure = Figure(figsize=(8, 1.7))
for axes, image, share in zip(figure.subplots(1, len(lam)), x_tilde, y_tilde, strict=True):
    axes.imshow(image.reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
    axes.set_title(f"{100 * share[0]:.0f} % a 0, {100 * share[4]:.0f} % a 4", fontsize="small")
    axes.set_axis_off()
figure

# %% [markdown]
# #### Noise injection
#
# Add noise to inputs, labels, gradients or weights while training (`regularize.input_noise`, `label_noise`,
# `gradient_noise`, `weight_noise`). For noise $\epsilon \sim N(0, \sigma^2 I)$ on the inputs of a linear model the
# notes work out what it does. Its components are independent:
#
# $$E[\epsilon_i \epsilon_j] = \begin{cases} 0 & i \ne j \\ \sigma^2 & i = j. \end{cases} \tag{3.16}$$
#
# The expected squared loss, over a density $f_{X,Y}$ (whose values may be above 1; the notes say they may not), is
#
# $$\mathcal{L}(w) = E\bigl[(w^{\mathsf T} x - y)^2\bigr] = \iint (w^{\mathsf T} x - y)^2 f_{X,Y}(x, y)\, dy\, dx
# \tag{3.17}$$
#
# and under noise it becomes
#
# $$\tilde{\mathcal{L}}(w) = \iint E_\epsilon\bigl[(w^{\mathsf T} (x + \epsilon) - y)^2 \mid (x, y)\bigr]
# f_{X,Y}(x, y)\, dy\, dx. \tag{3.18}$$
#
# Multiply the square out,
#
# $$\tilde{\mathcal{L}}(w) = \iint \bigl[(w^{\mathsf T} x - y)^2 + 2 (w^{\mathsf T} x - y)\, E[w^{\mathsf T} \epsilon]
# + E[(w^{\mathsf T} \epsilon)^2]\bigr] f_{X,Y}(x, y)\, dy\, dx, \tag{3.19}$$
#
# and of the two new terms one is nothing and the other simple:
#
# $$E[w^{\mathsf T} \epsilon] = E[w_1 \epsilon_1 + \cdots + w_d \epsilon_d] = 0 \tag{3.20}$$
#
# $$E[(w^{\mathsf T} \epsilon)^2] = \sum_{i=1}^d w_i^2 \sigma^2 = \sigma^2 \sum_{i=1}^d w_i^2. \tag{3.21}$$
#
# So what noise does is
#
# $$\tilde{\mathcal{L}}(w) = \mathcal{L}(w) + \sigma^2 \sum_{i=1}^d w_i^2, \tag{3.22}$$
#
# which is L2 with $\alpha = 2 \sigma^2$. `regularize.noisy_squared_loss` is (3.22). With 100,000 draws of the noise:

# %%
sigma = 0.3
epsilon = regularize.noise(jax.random.key(6), jnp.zeros((100_000, 4)), sigma)
noisy = jnp.mean(((inputs[None] + epsilon.reshape(2000, 50, 4)) @ w - answers[None]) ** 2)
print(f"(3.16)  sigma^2 = {sigma**2:.4f}; E[eps_i eps_j] =\n{epsilon.T @ epsilon / len(epsilon)}")
print(f"(3.17)  L  = {2 * loss(w):.4f}")
print(f"(3.18)  L~ = {noisy:.4f}")
print(f"(3.20)  E[w.eps] = {jnp.mean(epsilon @ w):.4f}")
print(f"(3.21)  E[(w.eps)^2] = {jnp.mean((epsilon @ w) ** 2):.4f} and {sigma**2 * jnp.sum(w**2):.4f}")
print(f"(3.22)  L~ = {regularize.noisy_squared_loss(w, inputs, answers, sigma):.4f}")
np.testing.assert_allclose(epsilon.T @ epsilon / len(epsilon), sigma**2 * np.eye(4), atol=0.003)
np.testing.assert_allclose(jnp.mean((epsilon @ w) ** 2), sigma**2 * jnp.sum(w**2), rtol=0.03)
np.testing.assert_allclose(noisy, regularize.noisy_squared_loss(w, inputs, answers, sigma), rtol=0.01)

# %% [markdown]
# It also holds for what is learnt: regressions trained on noisy inputs scatter around the weights of (3.12) with
# $\alpha = 2\sigma^2$. But it holds for linear models only. On the right a network's cost grows under noise by another
# amount than any such rule says.

# %%
figure, arrays = runner.show(noise_is_l2, sigmas=(0.1, 0.3, 1.0), seeds=30, draws=1000, network_epochs=10)
figure

# %% [markdown]
# #### Dropout
#
# In every step drop each hidden neuron with probability $p$: its activation is 0, and so is its error. Nobody can rely
# on a neighbour that may be gone. At test time all are there, so the next layer hears too much. To make up for it,
# scale activations by $1 - p$, the fraction that was kept; the notes scale by $p$, which is right for $p = 1/2$ only.
# `dropout.minibatch_value_and_grad` trains, `dropout.at_test` scales. The input to a neuron of the next
# layer, on average over many masks and as scaled:

# %%
p = 0.2
layers = mlp.init(jax.random.key(7), (3, 50, 1))
hidden = activations.sigmoid(layers[0].w @ jnp.ones(3) + layers[0].b)
masks = dropout.mask(jax.random.key(8), (20_000, 50), p)
dropped = jnp.mean((masks * hidden[None]) @ layers[1].w[0])
at_test = mlp.logits(dropout.at_test(layers, p), jnp.ones(3))[0]
print(f"kept {jnp.mean(masks):.3f} of the neurons; z on average {dropped:.3f}, scaled by 1 - p {at_test:.3f}")
print(f"scaled by p, as the notes have it, {p / (1 - p) * at_test:.3f}")
np.testing.assert_allclose(dropped, at_test, atol=0.02)

# %% [markdown]
# #### All of them
#
# Which helps? Networks learn 200 digits, with each method alone. On a set as small as this, and with strengths that
# were chosen for MNIST, most of the differences are within the noise.

# %%
figure, arrays = runner.show(overfitting, data="digits", examples=200, epochs=60, seeds=3)
figure

# %% [markdown]
# They become clear with 1,000 images of MNIST, as `python -m experiments overfitting` finds: all but mixup and early
# stopping help, and augmentation is far ahead.
#
# ![Accuracies on 1,000 images of MNIST, with each method alone](../figures/overfitting.png)
#
# Until here networks have been trained. [Chapter 4](chapter_4.ipynb) builds them without training, for any function.
