# %% [markdown]
# # Chapter 4: networks that compute any function
#
# The chapters before this one trained networks. This one builds them: a function goes in, weights come out, and
# nothing is learnt. That is how the notes, after chapter 4 of Nielsen's book, show that a network can come as near to
# a continuous function as one likes. Two observations carry it, and each is a picture:
#
# 1. a sigmoid neuron with a large weight is a step;
# 2. two steps make an indicator, which is 1 on an interval and 0 elsewhere.
#
# The rest is patience: cut the input into small cells, give each its indicator, and weight it with the function's
# value there.
#
# `jnn.universal` does this. It returns parameters of `jnn.mlp`, like those of
# [chapter 1](chapter_1.ipynb): what [chapter 2](chapter_2.ipynb) says of gradients holds for them, and in the end we
# train one. [Chapter 1](chapter_1.ipynb) says how to run these notebooks. This chapter of the notes has seven figures,
# and neither numbered equations nor exercises.

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
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from experiments import runner
from experiments.chapter_4 import (
    approximate_2d,
    approximate_3d,
    fig_4_1_step,
    fig_4_3_rectangle,
    fig_4_5_approximation,
    fig_4_7_tower,
    refine,
)
from jnn import activations, backprop, costs, gradcheck, mlp, universal

# %% [markdown]
# ## 4.1 Step functions
#
# One neuron with one input $x$ has a weight $w$ and a bias $b$. Written with $s = -b/w$, its output is
#
# $$\sigma(w x + b) = \sigma\big(w (x - s)\big), \qquad b = -s\,w.$$
#
# So $s$ says where it passes 1/2, and $w$ how fast. `universal.step(s, w)` is that neuron, and nothing else:

# %%
(neuron,) = universal.step(0.4, 1000.0)
print(f"w = {neuron.w.item():g}, b = {neuron.b.item():g}")
for x in (0.39, 0.4, 0.41):
    print(f"x = {x}: {mlp.forward((neuron,), jnp.array([x])).item():.6f}")

# %% [markdown]
# **Figure 4.1.** On the left the weight grows up to the notes' $w = 1000$, on the right the bias moves the step. From
# the true step the neuron differs by at most $e^{-w |x - s|}$, and from 0.01 to 0.99 it rises within
# $2 \ln(99) / w$. `runner.show` computes, checks what is claimed, and draws.

# %%
figure, arrays = runner.show(fig_4_1_step)
figure

# %% [markdown]
# ### Two steps make a rectangle
#
# **Figure 4.2** is a network with two hidden neurons. They step up at $s_1$ and at $s_2 > s_1$, and the output neuron
# takes the difference of the two:
#
# $$\sigma(h\,a_1 - h\,a_2 - h/2), \qquad a_1 = \sigma(w_1 x + b_1), \quad a_2 = \sigma(w_2 x + b_2).$$
#
# Between $s_1$ and $s_2$ only the first is on, and the weighted input is $h - h/2 = h/2$. Elsewhere none is on, or
# both, and it is $-h/2$. With a large $h$ that is as good as 1 and 0.
#
# Here is the figure as parameters: the weights and biases of the hidden layer, then those of the output neuron.

# %%
net = universal.rectangle(0.4, 0.6, w=10_000.0, h=10_000.0)
net

# %% [markdown]
# Far smaller ones would do. Left to itself, the function chooses $w$ from the width of the interval, so that a step
# rises within a hundredth of it, and an $h$ that leaves the output within $e^{-64}$ of 0 or 1. At both ends it is 1/2.

# %%
net = universal.rectangle(0.4, 0.6)
print(f"w = {net[0].w.ravel()}, h = {net[1].w[0, 0]:g}")
for x in (0.3, 0.4, 0.5, 0.6, 0.7):
    print(f"x = {x}: {mlp.forward(net, jnp.array([x])).item():.6f}")

# %% [markdown]
# **Figure 4.3.** The output with $w_1 = w_2 = 10000$ and $h = 10000$. On the right, one of its sides under the
# magnifying glass: a large $h$ makes the rectangle far steeper than the steps it is made of.

# %%
figure, arrays = runner.show(fig_4_3_rectangle)
figure

# %% [markdown]
# ## 4.2 Functions of one variable
#
# Give that network one more neuron, linear, with the weight $y$: the output is $y$ on the interval and 0 elsewhere.
# Put many side by side, each weighted with the mean value $f[s_i, s_{i+1}]$ of $f$ on its interval, and the output
# follows $f$ in stairs:
#
# $$\sum_i f[s_i, s_{i+1}]\; I[s_i, s_{i+1}](x) .$$
#
# (The notes write $I[s_1, s_{i+1}]$ once, where $I[s_i, s_{i+1}]$ is meant.)
#
# **Figure 4.4** is this network for four intervals. `universal.approximate` builds it, here for the function of
# Nielsen's book. Neighbours share the knot between them, so five steps serve four indicators, which are the rows of
# the second layer: $h$ at the step where the interval begins, $-h$ at the step where it ends.
#
# $$f(x) = 0.2 + 0.4 x^2 + 0.3\,x \sin(15 x) + 0.05 \cos(50 x)$$

# %%
f = fig_4_5_approximation.f
net = universal.approximate(f, 0.0, 1.0, bins=4, samples=1000)
print("neurons in each layer:", mlp.sizes(net))
for name, layer in zip(("steps", "indicators", "output"), net, strict=True):
    print(f"\n{name}: w =\n{layer.w}\nb = {layer.b}")

# %% [markdown]
# The output weights are the mean values of $f$: with `samples=1000` over 1000 points of each interval, and without
# it simply the value at its centre. At a knot both indicators are 1/2, so that the network gives the mean of its two
# neighbours.

# %%
means = f((jnp.arange(4000) + 0.5) / 4000).reshape(4, 1000).mean(axis=1)
values = jax.vmap(mlp.logits, in_axes=(None, 0))(net, jnp.array([[0.125], [0.375], [0.625], [0.875], [0.5]]))[:, 0]
print("f's means:", means)
print("network:  ", values[:4])
print(f"at s_3:    {values[4]:.6f}, and its neighbours' mean {values[1:3].mean():.6f}")
assert jnp.allclose(values, jnp.append(means, means[1:3].mean()), atol=1e-6)

# %% [markdown]
# How near is it? Away from the knots the network errs for two reasons only: $f$ is not constant on an interval, and
# no indicator is exactly 0 or 1. With $f$ taken at the centres,
#
# $$|\mathrm{net}(x) - f(x)| \;\le\; \omega(r) + \mathrm{leak} \cdot \max|f|,$$
#
# where $r$ is half an interval and $\omega(r)$ the most that $f$ changes over a distance $r$. `universal.leak` is the
# second part, and it is nothing:

# %%
print(f"leak with 50 intervals, where w |x - s| >= 25: {universal.leak(50, 25.0):.1e}")

# %% [markdown]
# **Figure 4.5.** Nielsen's function by 10 and by 50 indicators, as in the notes, and the error as their number grows:
# twice the neurons, half the error.

# %%
figure, arrays = runner.show(fig_4_5_approximation, bins=(10, 20, 25, 50, 100, 200, 500))
figure.set(dpi=80)
figure

# %% [markdown]
# ## 4.3 Functions of several variables
#
# In the plane the indicator of an interval becomes that of a rectangle, a tower. **Figure 4.6** has four steps, two
# along $x$ and two along $y$, and one output neuron, whose weighted input is, without its bias,
#
# $$h\,\sigma(w_1 x + b_1) - h\,\sigma(w_2 x + b_2) + h\,\sigma(w_3 y + b_3) - h\,\sigma(w_4 y + b_4).$$
#
# It is $2h$ where $x$ and $y$ are both in their intervals, $h$ where one of them is, and 0 where none is. A bias
# anywhere between $-h$ and $-2h$ tells the first from the rest, and $-3h/2$ lies in the middle. (The notes call the
# input outside less than $h$: it is at most $h$. And they print that the bias is between $h$ and $h$.)
#
# The network as its parameters, for the rectangle $(1, 2) \times (-2, 0)$:

# %%
tower = universal.tower((1.0, -2.0), (2.0, 0.0))
tower

# %% [markdown]
# Is it true that any bias between $-h$ and $-2h$ will do? Inside the rectangle, beside it (where $y$ is right and $x$
# is not), and far away:

# %%
h = tower[1].w[0, 0]
places = {"inside": (1.5, -1.0), "beside": (0.5, -1.0), "far away": (0.5, 1.0)}
for share in (0.9, 1.1, 1.5, 1.9, 2.1):
    moved = (tower[0], mlp.Layer(tower[1].w, jnp.array([-share * h])))
    found = {place: mlp.forward(moved, jnp.array(x)).item() for place, x in places.items()}
    print(f"bias -{share} h: {', '.join(f'{place} {a:.5f}' for place, a in found.items())}")
    assert [round(a) for a in found.values()] == [share < 2, share < 1, 0]

# %% [markdown]
# **Figure 4.7.** The tower, and beside it the three levels from which the bias cuts it.

# %%
figure, arrays = runner.show(fig_4_7_tower)
figure.set(dpi=80)
figure

# %% [markdown]
# ### Three variables, and more
#
# Each further variable brings two steps, which add $h$ inside their interval. Of $m$ variables all must agree, so the
# bias lies between $-(m-1)h$ and $-mh$. The middle is
#
# $$-\frac{(2m - 1)\,h}{2},$$
#
# which is $-3h/2$ for two and $-5h/2$ for three, as the notes have it. (In their general formula $m$ has become $h$:
# they print $-(2h-1)/2$.)

# %%
for m in (1, 2, 3, 4):
    bias = universal.tower((0.0,) * m, (1.0,) * m)[1].b.item() / universal.HEIGHT
    print(f"m = {m}: the bias is {bias:g} h")
    assert bias == -(2 * m - 1) / 2

# %% [markdown]
# A function of three variables, $\sin(3 x_1) \cos(2 x_2) + x_3 \sin(2 x_1 x_2)$, in two slices through its cube:
# itself, by few cells, and by more. The error falls with the width of a cell as before.

# %%
figure, arrays = runner.show(approximate_3d, bins=(4, 6, 8, 12, 16), slices=(-0.85, 0.95), points=48)
figure.set(dpi=80, figheight=4.2)
figure

# %% [markdown]
# There is a price. With 20 intervals along each of $m$ axes there are $20^m$ cells, and each is a neuron. The theorem
# says that a network exists; it does not say that you can afford it.

# %%
for m in (1, 2, 3, 4, 5):
    print(f"m = {m}: {20**m:9,} indicators, {universal.parameter_bytes((20,) * m, 1) / 2**20:10,.3f} MiB")

# %% [markdown]
# ### From $\mathbb{R}^m$ to $\mathbb{R}^n$
#
# A function with $n$ values is $n$ functions. The notes set $n$ networks side by side; here they share their steps and
# indicators, and the output layer has a row for each function and a column for each cell. For
# $x \mapsto (x_1, x_2, x_1 x_2)$ on the unit square, in $2 \times 2$ cells:

# %%
net = universal.approximate(lambda x: jnp.array([x[0], x[1], x[0] * x[1]]), (0.0, 0.0), (1.0, 1.0), bins=2)
print("neurons in each layer:", mlp.sizes(net))
print(net[2].w)

# %% [markdown]
# Below, a surface over the plane ($\mathbb{R}^2 \to \mathbb{R}$), and then a picture: a point goes in, and red, green
# and blue come out ($\mathbb{R}^2 \to \mathbb{R}^3$).

# %%
figure, arrays = runner.show(approximate_2d, bins=(5, 10, 20), picture_bins=(12, 48), pixels=96)
figure.set(dpi=80)
figure

# %% [markdown]
# ## Beyond the notes: training what was built
#
# A constructed network is a network. Chapter 2's backpropagation differentiates it, with a linear output here and the
# quadratic cost; by hand and by autodiff it gives the same:

# %%
cost = costs.quadratic_with(activations.identity)
soft = universal.approximate(f, 0.0, 1.0, bins=10, w=40.0, h=16.0)
report = gradcheck.compare(
    lambda params, x, y: cost.value(mlp.logits(params, x), y),
    Partial(backprop.value_and_grad, cost=cost),
    *(soft, jnp.array([0.33]), f(jnp.array([0.33]))),
)
print(report)
assert report.ok

# %% [markdown]
# Steep steps are saturated neurons, and [chapter 3](chapter_3.ipynb) has shown what becomes of those: at most $x$ they
# have next to no gradient, and so do not learn. Softer ones do, and begin as hardly worse an approximation. Here is
# the fraction of all $x$ at which the gradient by the weight of any step is above $10^{-5}$:

# %%
xs = jnp.linspace(0, 1, 1001)[:, None]
for name, net in {"steep": universal.approximate(f, 0.0, 1.0, bins=10), "soft": soft}.items():
    _, grads = jax.vmap(Partial(backprop.value_and_grad, cost=cost), in_axes=(None, 0, 0))(net, xs, f(xs))
    moved = jnp.any(jnp.abs(grads[0].w) > 1e-5, axis=(1, 2))
    print(f"{name}: {100 * moved.mean():.0f} % of all x")

# %% [markdown]
# Train the soft one by mini-batches, and the same number of indicators comes many times nearer to $f$.
# The theorem's network is a proof, and a good place to start from; it is not the best one of its size.

# %%
figure, arrays = runner.show(refine, bins=(10, 20), seeds=2)
print(f"rms error {arrays['steep_rms_10'].item():.4f} as built, {arrays['trained_rms_10'].mean():.4f} after training")
figure.set(dpi=80)
figure

# %% [markdown]
# [Chapter 5](chapter_5.ipynb) leaves the world of fixed inputs, and reads sequences.
