# %% [markdown]
# # Chapter 4: networks that compute any function
#
# The previous chapters trained networks. This one constructs them: the weights are computed from a function, without
# training. In this way the notes, following chapter 4 of Nielsen's book, show that a network can approximate any
# continuous function arbitrarily well. The construction rests on two observations:
#
# 1. a sigmoid neuron with a large weight is a step;
# 2. two steps make an indicator, which is 1 on an interval and 0 elsewhere.
#
# Divide the input into small cells, give each its indicator, and weight the indicator with the value of the function in
# the cell.
#
# `jnn.universal` does this. It returns parameters of `jnn.mlp`, like those of
# [chapter 1](chapter_1.ipynb): what [chapter 2](chapter_2.ipynb) says of gradients holds for them, and in the end we
# train one. [Chapter 1](chapter_1.ipynb) says how to run these notebooks. This chapter of the notes has seven figures,
# and neither numbered equations nor exercises.

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
# So $s$ is the point where the output is 1/2, and $w$ determines the slope there. `universal.step(s, w)` is this
# neuron:

# %%
(neuron,) = universal.step(0.4, 1000.0)
print(f"w = {neuron.w.item():g}, b = {neuron.b.item():g}")
for x in (0.39, 0.4, 0.41):
    print(f"x = {x}: {mlp.forward((neuron,), jnp.array([x])).item():.6f}")

# %% [markdown]
# **Figure 4.1.** On the left the weight grows to the notes' $w = 1000$; on the right the bias moves the step. The
# neuron differs from a true step by at most $e^{-w |x - s|}$, and rises from 0.01 to 0.99 within $2 \ln(99) / w$.
# `runner.show` runs an experiment, checks its claims, and draws its figure.

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
# Between $s_1$ and $s_2$ only the first neuron is on, and the weighted input is $h - h/2 = h/2$. Elsewhere both neurons
# are on or both are off, and it is $-h/2$. For large $h$ the output is practically 1 or 0.
#
# Here is the figure as parameters: the weights and biases of the hidden layer, then those of the output neuron.

# %%
net = universal.rectangle(0.4, 0.6, w=10_000.0, h=10_000.0)
net

# %% [markdown]
# Far smaller parameters are enough. By default, $w$ depends on the width of the interval, so that a step rises within a
# hundredth of it, and $h$ is such that the output is within $e^{-64}$ of 0 or 1. At both ends it is 1/2.

# %%
net = universal.rectangle(0.4, 0.6)
print(f"w = {net[0].w.ravel()}, h = {net[1].w[0, 0]:g}")
for x in (0.3, 0.4, 0.5, 0.6, 0.7):
    print(f"x = {x}: {mlp.forward(net, jnp.array([x])).item():.6f}")

# %% [markdown]
# **Figure 4.3.** The output with $w_1 = w_2 = 10000$ and $h = 10000$. On the right, one of its sides magnified: a large
# $h$ makes the rectangle far steeper than its steps.

# %%
figure, arrays = runner.show(fig_4_3_rectangle)
figure

# %% [markdown]
# ## 4.2 Functions of one variable
#
# Add a linear neuron with weight $y$ to this network: its output is $y$ on the interval and 0 elsewhere. Combine many
# such networks, each weighted with the mean value $f[s_i, s_{i+1}]$ of $f$ on its interval, and the output is a
# piecewise constant approximation of $f$:
#
# $$\sum_i f[s_i, s_{i+1}]\; I[s_i, s_{i+1}](x) .$$
#
# (The notes write $I[s_1, s_{i+1}]$ once, where $I[s_i, s_{i+1}]$ is meant.)
#
# **Figure 4.4** is this network for four intervals. `universal.approximate` constructs it, here for the function in
# Nielsen's book. Adjacent intervals share a step, so five steps are enough for four indicators. Each indicator is a row
# of the second layer, with $h$ at the step where its interval begins and $-h$ at the step where it ends.
#
# $$f(x) = 0.2 + 0.4 x^2 + 0.3\,x \sin(15 x) + 0.05 \cos(50 x)$$

# %%
f = fig_4_5_approximation.f
bins = 4
net = universal.approximate(f, 0.0, 1.0, bins=bins, samples=1000)
print("neurons in each layer:", mlp.sizes(net))
for name, layer in zip(("steps", "indicators", "output"), net, strict=True):
    print(f"\n{name}: w =\n{layer.w}\nb = {layer.b}")

# %% [markdown]
# The output weights are the mean values of $f$: with `samples`, over that many points of each interval, and without it
# the value at the centre. At a knot both adjacent indicators are 1/2, so that the network returns the mean of the two
# neighbouring values.

# %%
means = f((jnp.arange(bins * 1000) + 0.5) / (bins * 1000)).reshape(bins, 1000).mean(axis=1)
centres, knots = (jnp.arange(bins)[:, None] + 0.5) / bins, jnp.arange(1, bins)[:, None] / bins
at_centres, at_knots = (jax.vmap(mlp.logits, in_axes=(None, 0))(net, x)[:, 0] for x in (centres, knots))
print("means of f:               ", means)
print("network, at the centres:  ", at_centres)
print("network, at the knots:    ", at_knots)
print("means of neighbouring means", (means[:-1] + means[1:]) / 2)
assert jnp.allclose(at_centres, means, atol=1e-6)
assert jnp.allclose(at_knots, (means[:-1] + means[1:]) / 2, atol=0.01)  # a knot is rounded, and the steps are steep

# %% [markdown]
# How accurate is it? Away from the knots there are only two sources of error: $f$ is not constant on an interval, and
# no indicator is exactly 0 or 1. With the values of $f$ at the centres,
#
# $$|\mathrm{net}(x) - f(x)| \;\le\; \omega(r) + \mathrm{leak} \cdot \max|f|,$$
#
# where $r$ is half the width of an interval and $\omega(r)$ is the largest change of $f$ over a distance $r$.
# `universal.leak` bounds the second source, which is negligible:

# %%
print(f"leak with 50 intervals, where w |x - s| >= 25: {universal.leak(50, 25.0):.1e}")

# %% [markdown]
# **Figure 4.5.** Nielsen's function, approximated with 10 and 50 indicators as in the notes, and the error as their
# number grows: twice as many neurons halve the error.

# %%
figure, arrays = runner.show(fig_4_5_approximation, bins=(10, 20, 25, 50, 100, 200, 500))
figure.set(dpi=80)
figure

# %% [markdown]
# ## 4.3 Functions of several variables
#
# In the plane the indicator of an interval becomes that of a rectangle, a tower. **Figure 4.6** has four steps, two
# along $x$ and two along $y$, and one output neuron, whose weighted input, without the bias, is
#
# $$h\,\sigma(w_1 x + b_1) - h\,\sigma(w_2 x + b_2) + h\,\sigma(w_3 y + b_3) - h\,\sigma(w_4 y + b_4).$$
#
# It is $2h$ where both $x$ and $y$ are in their intervals, $h$ where one of them is, and 0 where neither is. Any bias
# between $-h$ and $-2h$ separates the first case from the others; $-3h/2$ lies in the middle. (According to the notes
# the input outside is less than $h$: it is at most $h$. They also print that the bias is between $h$ and $h$.)
#
# The network as its parameters, for the rectangle $(1, 2) \times (-2, 0)$:

# %%
tower = universal.tower((1.0, -2.0), (2.0, 0.0))
tower

# %% [markdown]
# Does any bias between $-h$ and $-2h$ work? The output inside the rectangle, beside it (where only $y$ is in its
# interval), and far away:

# %%
h = tower[1].w[0, 0]
places = {"inside": (1.5, -1.0), "beside": (0.5, -1.0), "far away": (0.5, 1.0)}
for share in (0.9, 1.1, 1.5, 1.9, 2.1):
    moved = (tower[0], mlp.Layer(tower[1].w, jnp.array([-share * h])))
    found = {place: mlp.forward(moved, jnp.array(x)).item() for place, x in places.items()}
    print(f"bias -{share} h: {', '.join(f'{place} {a:.5f}' for place, a in found.items())}")
    assert [round(a) for a in found.values()] == [share < 2, share < 1, 0]

# %% [markdown]
# **Figure 4.7.** The tower, and beside it the three levels of the weighted input, of which the bias keeps the highest.

# %%
figure, arrays = runner.show(fig_4_7_tower)
figure.set(dpi=80)
figure

# %% [markdown]
# ### Three variables, and more
#
# Each further variable adds two steps, which contribute $h$ inside their interval. All $m$ variables must be in their
# intervals, so the bias lies between $-(m-1)h$ and $-mh$. The middle is
#
# $$-\frac{(2m - 1)\,h}{2},$$
#
# which is $-3h/2$ for two variables and $-5h/2$ for three, as in the notes. (Their general formula has $h$ in place of
# $m$: they print $-(2h-1)/2$.)

# %%
for m in (1, 2, 3, 4):
    bias = universal.tower((0.0,) * m, (1.0,) * m)[1].b.item() / universal.HEIGHT
    print(f"m = {m}: the bias is {bias:g} h")
    assert bias == -(2 * m - 1) / 2

# %% [markdown]
# A function of three variables, $\sin(3 x_1) \cos(2 x_2) + x_3 \sin(2 x_1 x_2)$, in two slices through its cube: the
# function, its approximation with few cells, and with more. As before, the error falls with the width of a cell.

# %%
figure, arrays = runner.show(approximate_3d, bins=(4, 6, 8, 12, 16), slices=(-0.85, 0.95), points=48)
figure.set(dpi=80, figheight=4.2)
figure

# %% [markdown]
# With $n$ intervals along each of $m$ axes there are $n^m$ cells, and each is a neuron. The theorem states that a
# network exists, not that it is affordable.

# %%
n = 20
for m in (1, 2, 3, 4, 5):
    print(f"m = {m}: {n**m:9,} indicators, {universal.parameter_bytes((n,) * m, 1) / 2**20:10,.3f} MiB")

# %% [markdown]
# ### From $\mathbb{R}^m$ to $\mathbb{R}^n$
#
# A function with $n$ values is $n$ functions. The notes combine $n$ networks; here they share their steps and
# indicators, and the output layer has a row for each function and a column for each cell. For
# $x \mapsto (x_1, x_2, x_1 x_2)$ on the unit square:

# %%
net = universal.approximate(lambda x: jnp.array([x[0], x[1], x[0] * x[1]]), (0.0, 0.0), (1.0, 1.0), bins=2)
print("neurons in each layer:", mlp.sizes(net))
print(net[2].w)

# %% [markdown]
# Below are a surface over the plane ($\mathbb{R}^2 \to \mathbb{R}$) and a picture, a function from a point to its red,
# green and blue values ($\mathbb{R}^2 \to \mathbb{R}^3$).

# %%
figure, arrays = runner.show(approximate_2d, bins=(5, 10, 20), picture_bins=(12, 48), pixels=96)
figure.set(dpi=80)
figure

# %% [markdown]
# ## Beyond the notes: training a constructed network
#
# Chapter 2's backpropagation differentiates a constructed network like any other, here with a linear output and the
# quadratic cost, and agrees with autodiff:

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
# Steep steps are saturated neurons, as in [chapter 3](chapter_3.ipynb): for most $x$ their gradient nearly vanishes, so
# they do not learn. Softer steps do learn, and the initial approximation is hardly worse. Here is the fraction of all
# $x$ at which the gradient with respect to the weight of any step is above $10^{-5}$:

# %%
xs = jnp.linspace(0, 1, 1001)[:, None]
for name, net in {"steep": universal.approximate(f, 0.0, 1.0, bins=10), "soft": soft}.items():
    _, grads = jax.vmap(Partial(backprop.value_and_grad, cost=cost), in_axes=(None, 0, 0))(net, xs, f(xs))
    moved = jnp.any(jnp.abs(grads[0].w) > 1e-5, axis=(1, 2))
    print(f"{name}: {100 * moved.mean():.0f} % of all x")

# %% [markdown]
# Training the soft network with mini-batches reduces its error many times, with the same number of indicators. The
# constructed network is a proof and a good initialisation; it is not the best network of its size.

# %%
figure, arrays = runner.show(refine, bins=(10, 20), seeds=2)
print(f"rms error {arrays['steep_rms_10'].item():.4f} before, {arrays['trained_rms_10'].mean():.4f} after training")
figure.set(dpi=80)
figure

# %% [markdown]
# [Chapter 5](chapter_5.ipynb) turns from inputs of fixed size to sequences.
