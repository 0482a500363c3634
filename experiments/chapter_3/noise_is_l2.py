"""Equation (3.22): noise on the inputs of a linear model is L2 with alpha = 2 sigma^2, and for other models it is not.

Many linear regressions train side by side on inputs with new noise in every step; their mean is the regularised optimum
(3.12). For a network the same noise adds a different amount to the cost: for small sigma, sigma^2 times half the
Laplacian of the cost with respect to the inputs, then more than that, then less.
"""

import functools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from experiments import common, runner
from jnn import activations, backprop, costs, data, mlp, parallel, regularize, ridge, train

LINEAR = Partial(backprop.minibatch_value_and_grad, cost=costs.quadratic_with(activations.identity))


@dataclass(frozen=True)
class Config(common.Seeded):
    quick: ClassVar[dict[str, Any]] = {
        "sigmas": (0.3, 3.0),
        "seeds": 30,
        "epochs": 500,
        "draws": 100,
        "network_epochs": 5,
    }

    d: int = 8
    """Inputs of the regression."""
    examples: int = 60
    """Examples of the regression."""
    sigmas: Annotated[tuple[float, ...], runner.AtLeast(0)] = (0.1, 0.3, 1.0, 3.0)
    """Standard deviations of the noise."""
    seeds: Annotated[int, runner.AtLeast(2)] = 200
    """Regressions with noise of each strength, side by side."""
    epochs: int = 3000
    """Full-batch steps of a regression, with a learning rate that falls along a cosine."""
    draws: int = 5000
    """Samples of the noise that measure a cost."""
    network_epochs: int = 20
    """Passes of the network over the embedded digits (UCI)."""


def regression(config: Config, key: Any) -> dict[str, Any]:
    """For each sigma the cost under noise, by Monte Carlo and by (3.22), the trained weights and the ridge solution."""
    x_key, w_key, y_key, noise_key, train_key = jax.random.split(key, 5)
    xs = jax.random.normal(x_key, (config.examples, config.d)) * jnp.geomspace(0.5, 2, config.d)[None]
    ys = xs @ jax.random.normal(w_key, (config.d,)) + 0.5 * jax.random.normal(y_key, (config.examples,))
    hessian = 2 * xs.T @ xs / config.examples
    w_star = jnp.linalg.solve(hessian, 2 * xs.T @ ys / config.examples)

    def weights_only(params: Any, xs: Any, ys: Any) -> Any:
        value, (grads,) = LINEAR(params, xs, ys)
        return value, (grads._replace(b=jnp.zeros(1)),)  # the notes' model w^T x has no bias

    def study(sigma: Any) -> dict[str, Any]:
        optimum = ridge.solve(hessian, w_star, 2 * sigma**2)

        def loss(key: Any) -> Any:
            noisy, same = regularize.input_noise(key, xs, ys, sigma=sigma)
            return jnp.mean((noisy @ optimum - same) ** 2)

        losses = jax.vmap(loss)(jax.random.split(noise_key, config.draws))
        rate = optax.cosine_decay_schedule(0.5 / (jnp.linalg.eigvalsh(hessian)[-1] / 2 + sigma**2), config.epochs)
        optimizer = optax.sgd(rate)
        start = train.init(optimizer, (mlp.Layer(w=jnp.zeros((1, config.d)), b=jnp.zeros(1)),))
        noise = Partial(regularize.input_noise, sigma=sigma)
        training = functools.partial(train.run, epochs=config.epochs, batch_size=config.examples, transform=noise)
        state, _ = jax.vmap(training, in_axes=(0, None, None, None, None))(
            jax.random.split(train_key, config.seeds), weights_only, optimizer, start, (xs, ys[:, None])
        )
        return {
            "measured": losses.mean(),
            "error": losses.std(ddof=1) / np.sqrt(config.draws),
            "exact": regularize.noisy_squared_loss(optimum, xs, ys, sigma),
            "trained": state.params[0].w[:, 0],
            "ridge": optimum,
        }

    return {f"linear_{name}": values for name, values in parallel.sweep(study, jnp.array(config.sigmas)).items()}


def network(config: Config, key: Any) -> dict[str, Any]:
    """The cost that noise adds to a network, over sigma^2 times half the Laplacian of the cost in its inputs."""
    init_key, train_key, noise_key = jax.random.split(key, 3)
    images, test = data.digits()
    ys, few = data.one_hot(test.labels, 10), test.xs
    params = common.train_network(init_key, train_key, images, hidden=30, eta=0.5, epochs=config.network_epochs)

    def cost(x: Any, y: Any) -> Any:
        return costs.cross_entropy.value(mlp.logits(params, x), y)

    def laplacian(x: Any, y: Any) -> Any:
        return jnp.trace(jax.hessian(cost)(x, y))

    half_trace = jnp.mean(jax.jit(jax.vmap(laplacian))(few, ys)) / 2
    sigmas = jnp.geomspace(0.01, 3, 10)

    def added(key: Any, sigma: Any) -> Any:
        """With the noise and its negative, so that the first-order part cancels."""
        noise = regularize.noise(key, jnp.zeros_like(few), sigma)
        both = jax.vmap(cost)(few + noise, ys) + jax.vmap(cost)(few - noise, ys)
        return jnp.mean(both / 2 - jax.vmap(cost)(few, ys))

    keys = jax.random.split(noise_key, max(2, config.draws // 20))
    draws = jax.jit(jax.vmap(jax.vmap(added, (None, 0)), (0, None)))(keys, sigmas)
    over = draws / (sigmas**2 * half_trace)[None]
    return {
        "network_sigmas": sigmas,
        "network_ratio": over.mean(axis=0),
        "network_ratio_error": over.std(axis=0, ddof=1) / np.sqrt(len(keys)),
        "half_the_laplacian": half_trace,
        "sum_of_squared_first_weights": jnp.sum(params[0].w ** 2),
    }


ARRAYS = {
    "linear_measured": ("sigmas", "the mean squared loss under noise, by Monte Carlo"),
    "linear_error": ("sigmas", "the standard error of this mean"),
    "linear_exact": ("sigmas", "the squared loss under noise by (3.22)"),
    "linear_trained": ("sigmas seeds d", "the weights of each regression, trained with noise"),
    "linear_ridge": ("sigmas d", "the regularised optimum (3.12)"),
    "network_sigmas": ("network_sigmas", "the standard deviations of the noise on the network's inputs"),
    "network_ratio": ("network_sigmas", "the cost that noise adds, over sigma^2 times half the Laplacian"),
    "network_ratio_error": ("network_sigmas", "the standard error of this ratio"),
    "half_the_laplacian": ("", "half the Laplacian of the cost with respect to the inputs, mean over test images"),
    "sum_of_squared_first_weights": ("", "the sum of squares of the network's first weights"),
}


def compute(config: Config) -> dict[str, Any]:
    """Both studies."""
    linear_key, network_key = jax.random.split(jax.random.key(config.seed))
    return regression(config, linear_key) | network(config, network_key)


def z_scores(arrays: runner.Arrays) -> np.ndarray:
    """The distance of the mean trained weights from (3.12) in standard errors, for each sigma and weight."""
    trained = arrays["linear_trained"]
    error = trained.std(axis=1, ddof=1) / np.sqrt(trained.shape[1])
    return (trained.mean(axis=1) - arrays["linear_ridge"]) / error


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """(3.22) holds for the linear model, and not for the network."""
    away = np.abs(arrays["linear_measured"] - arrays["linear_exact"])
    ratio, error = arrays["network_ratio"], arrays["network_ratio_error"]
    return {
        "the cost under noise is (3.22), within four standard errors": np.all(away < 4 * arrays["linear_error"]),
        "training with noise finds (3.12) with alpha = 2 sigma^2, within five standard errors": (
            np.abs(z_scores(arrays)).max() < 5
        ),
        "for small noise a network's cost grows by sigma^2 times half the Laplacian": (
            abs(ratio[0] - 1) < 4 * error[0] + 0.02
        ),
        "for strong noise it grows by another amount, so noise is not L2 there": (
            abs(ratio[-1] - 1) > 10 * error[-1] and abs(ratio[-1] - 1) > 0.1
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Costs against (3.22), weights against (3.12), and the network."""
    cost, weights, net = common.panels(figure, (10, 3.5), 1, 3)
    sigmas = np.array(config.sigmas)
    cost.plot(sigmas, arrays["linear_exact"], color="C0", label="(3.22)")
    cost.errorbar(sigmas, arrays["linear_measured"], 4 * arrays["linear_error"], fmt="o", color="C1", label="measured")
    cost.set(xscale="log", xlabel=r"$\sigma$", ylabel="squared loss under noise", title="a linear model")
    cost.legend()
    for i, sigma in enumerate(config.sigmas):
        trained, solution = arrays["linear_trained"][i], arrays["linear_ridge"][i]
        error = trained.std(axis=0, ddof=1) / np.sqrt(len(trained))
        looks = {"fmt": "o", "color": f"C{i}", "label": rf"$\sigma = {sigma:g}$", "ms": 4}
        weights.errorbar(solution, trained.mean(axis=0), error, **looks)
    ends = np.array([arrays["linear_ridge"].min(), arrays["linear_ridge"].max()])
    weights.plot(ends, ends, color="black", linewidth=0.8)
    weights.set(xlabel=r"weights of (3.12), $\alpha = 2\sigma^2$", ylabel="trained with noise, mean")
    weights.set_title("its weights")
    weights.legend(fontsize="small")
    net.axhline(1, color="black", linewidth=0.8)
    net.errorbar(arrays["network_sigmas"], arrays["network_ratio"], arrays["network_ratio_error"], fmt="o-", color="C0")
    net.set(xscale="log", xlabel=r"$\sigma$", title="a sigmoid network", ylim=(0, None))
    net.set_ylabel(r"added cost / ($\sigma^2$ Laplacian / 2)")
