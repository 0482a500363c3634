"""Section 3.3.1: L2 shrinks the optimum along each eigenvector of the Hessian by lambda / (lambda + alpha).

This is exact for a quadratic loss, where the solve (3.12), the spectral form (3.13) and gradient descent agree. For
softmax regression and a network with one hidden layer, on real digits, it is a second-order prediction: how accurate is
it as alpha grows? Their cost alone has no minimum at finite weights, so L is the cost with a small L2 penalty. All
parameters are penalised, including biases, as in the notes' analysis.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from experiments import common, runner
from jnn import costs, data, mlp, parallel, ridge, train

NETS = {"softmax regression": (), "one hidden layer": (8,)}
PIXELS = 64


@dataclass(frozen=True)
class Config(common.Repeated):
    quick: ClassVar[dict[str, Any]] = {
        "examples": 300,
        "base": 0.1,
        "steps": 100,
        "top": 4,
        "seeds": 1,
        "ratios": (0.01, 1.0),
    }

    seeds: int = 3
    d: int = 12
    """Weights of the quadratic loss."""
    examples: int = 1437
    """Training digits of the networks."""
    base: float = 0.01
    """Alpha of the L2 that belongs to L itself."""
    ratios: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    """Values of the additional alpha, divided by `base`."""
    steps: int = 800
    """L-BFGS steps of a training run."""
    top: int = 12
    """Eigenpairs to find by Lanczos' method."""


def quadratic(config: Config, key: Any) -> dict[str, Any]:
    """(3.12), (3.13) and gradient descent on a random positive definite loss, at every ratio as alpha."""
    q_key, w_key = jax.random.split(key)
    q = jnp.linalg.qr(jax.random.normal(q_key, (config.d, config.d)))[0]
    eigenvalues = jnp.geomspace(0.01, 10, config.d)
    hessian = (q * eigenvalues[None]) @ q.T
    hessian = (hessian + hessian.T) / 2
    w_star = jax.random.normal(w_key, (config.d,))
    alphas = jnp.array(config.ratios)
    rate = 1 / (eigenvalues[-1] + alphas)

    def descend(alpha: Any, rate: Any) -> Any:
        def step(w: Any, _: Any) -> tuple[Any, None]:
            return w - rate * (hessian @ (w - w_star) + alpha * w), None

        return jax.lax.scan(step, w_star, length=20_000)[0]

    descended = jax.vmap(descend)(alphas, rate)
    return {
        "quadratic_solve": jnp.stack([ridge.solve(hessian, w_star, alpha) for alpha in config.ratios]),
        "quadratic_spectral": jnp.stack([ridge.solve_spectral(hessian, w_star, alpha) for alpha in config.ratios]),
        "quadratic_descent": descended,
        "quadratic_eigenvalues": eigenvalues,
        "quadratic_left": (descended @ q) / (q.T @ w_star)[None],
    }


def network(config: Config, key: Any, hidden: tuple[int, ...]) -> dict[str, Any]:
    """A network's optima without and with the additional L2, and the prediction of the second from the first."""
    init_key, lanczos_key = jax.random.split(key)
    (xs, labels), _ = data.digits()
    xs, ys = xs[: config.examples], data.one_hot(labels[: config.examples], 10)
    w_0, unravel = ravel_pytree(mlp.init(init_key, (PIXELS, *hidden, 10)))

    def loss(w: Any, alpha: Any) -> Any:
        z = jax.vmap(mlp.logits, in_axes=(None, 0))(unravel(w), xs)
        return jnp.mean(costs.log_likelihood.value(z, ys)) + (config.base + alpha) / 2 * jnp.sum(w**2)

    @jax.jit  # which traces it once for both calls
    def optimum(w: Any, alpha: Any) -> Any:
        optimizer = optax.lbfgs()

        def step(state: train.State, _: Any) -> tuple[train.State, None]:
            return train.step(jax.value_and_grad(loss), optimizer, state, (alpha,))[0], None

        return jax.lax.scan(step, train.init(optimizer, w), length=config.steps)[0].params

    w_star = optimum(w_0, jnp.zeros(()))
    hessian = jax.hessian(loss)(w_star, 0.0)
    eigenvalues, q = jnp.linalg.eigh((hessian + hessian.T) / 2)
    alphas = config.base * jnp.array(config.ratios)
    retrained = jax.lax.map(partial(optimum, w_star), alphas)
    predicted = jax.vmap(lambda alpha: q @ (ridge.shrinkage(eigenvalues, alpha) * (q.T @ w_star)))(alphas)
    matvec = partial(ridge.hvp, partial(loss, alpha=0.0), w_star)
    top, vectors = ridge.lanczos(lanczos_key, matvec, len(w_star), config.top, steps=8 * config.top)
    return {
        "slope": jnp.linalg.norm(jax.grad(loss)(w_star, 0.0)) / jnp.linalg.norm(config.base * w_star),
        "eigenvalues": eigenvalues,
        "top": top,
        "top_found": retrained @ vectors,
        "top_predicted": predicted @ vectors,
        "apart": jnp.linalg.norm(predicted - retrained, axis=1) / jnp.linalg.norm(w_star[None] - retrained, axis=1),
    }


ARRAYS = {
    "quadratic_solve": ("ratios d", "the regularised optimum by (3.12), for each alpha"),
    "quadratic_spectral": ("ratios d", "the regularised optimum by (3.13), for each alpha"),
    "quadratic_descent": ("ratios d", "the regularised optimum by gradient descent, for each alpha"),
    "quadratic_eigenvalues": ("d", "the eigenvalues of the quadratic loss's Hessian"),
    "quadratic_left": ("ratios d", "the remaining fraction of the optimum along each eigenvector"),
    "* slope": ("seeds", "the norm of the gradient at the optimum, over the norm of its L2 term"),
    "* eigenvalues": ("seeds parameters", "the eigenvalues of the network's Hessian at the optimum"),
    "* top": ("seeds top", "the largest eigenvalues by Lanczos' method"),
    "* top_found": ("seeds ratios top", "the retrained optimum along these eigenvectors, for each alpha"),
    "* top_predicted": ("seeds ratios top", "the same as (3.13) predicts it"),
    "* apart": ("seeds ratios", "the error of the prediction, over the distance of the two optima"),
    "*: relative error of the prediction at *": ("", "the mean of this ratio at one alpha"),
}


def compute(config: Config) -> dict[str, Any]:
    """The quadratic loss, and each network from several starts."""
    quadratic_key, *keys = jax.random.split(jax.random.key(config.seed), 1 + len(NETS))
    found = quadratic(config, quadratic_key)
    for (name, hidden), key in zip(NETS.items(), keys, strict=True):
        of_net = parallel.sweep(partial(network, config, hidden=hidden), jax.random.split(key, config.seeds))
        found |= {f"{name} {which}": value for which, value in of_net.items()}
        for i, ratio in enumerate(config.ratios):
            what = f"{name}: relative error of the prediction at alpha = {ratio:g} base"
            found |= runner.mean_and_standard_error(what, of_net["apart"][:, i])
    return found


def claims(config: Config, arrays: runner.Arrays) -> runner.Claims:
    """Exact for the quadratic loss; for networks a good approximation while alpha is small."""
    eigenvalues, alphas = arrays["quadratic_eigenvalues"], np.array(config.ratios)[:, None]
    expected = eigenvalues[None] / (eigenvalues[None] + alphas)
    found = {
        "quadratic loss: (3.12) is (3.13)": np.allclose(
            arrays["quadratic_solve"], arrays["quadratic_spectral"], atol=1e-4
        ),
        "quadratic loss: gradient descent finds the same": np.allclose(
            arrays["quadratic_descent"], arrays["quadratic_solve"], atol=1e-3
        ),
        "quadratic loss: each component shrinks by lambda / (lambda + alpha)": np.allclose(
            arrays["quadratic_left"], expected, atol=1e-2
        ),
    }
    for name in NETS:
        apart, top = arrays[f"{name} apart"], arrays[f"{name} top"]
        found |= {
            f"{name}: training reaches a minimum, where all eigenvalues are positive": (
                arrays[f"{name} slope"].max() < 0.01 and arrays[f"{name} eigenvalues"].min() > 0
            ),
            f"{name}: Lanczos' method finds the largest eigenvalues": np.allclose(
                top, arrays[f"{name} eigenvalues"][:, : -config.top - 1 : -1], rtol=1e-2
            ),
            f"{name}: for the smallest alpha the predicted move is within 10 % of the real move": (
                apart[:, 0].max() < 0.1
            ),
            f"{name}: for the largest alpha the prediction is worse than for the smallest": np.all(
                apart[:, -1] > apart[:, 0]
            ),
        }
    return found


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Shrinkage against lambda / alpha, for the quadratic loss and the networks, and the error of the prediction."""
    panels = common.panels(figure, (10, 3.6), 1, 3)
    line = np.geomspace(1e-3, 1e3, 200)
    panels[0].plot(line, line / (line + 1), color="black", linewidth=1, label=r"$\lambda/(\lambda+\alpha)$")
    panels[0].set(xscale="log", xlabel=r"$\lambda_i/\alpha$", ylim=(-0.05, 1.15))
    x = arrays["quadratic_eigenvalues"][None] / np.array(config.ratios)[:, None]
    panels[0].plot(x.ravel(), arrays["quadratic_left"].ravel(), "o", color="C0", markersize=4, label="gradient descent")
    panels[0].set(title="a quadratic loss", ylabel=r"remaining fraction of $q_i^T w^\star$")
    panels[0].legend(fontsize="small")
    for i, name in enumerate(NETS):
        places = arrays[f"{name} top_predicted"].ravel(), arrays[f"{name} top_found"].ravel()
        panels[1].plot(*places, ".", color=f"C{i}", markersize=3, label=name, zorder=3 - i)
        apart = 100 * arrays[f"{name} apart"]
        error = apart.std(axis=0, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else None
        panels[2].errorbar(config.ratios, apart.mean(axis=0), error, fmt="o-", color=f"C{i}", label=name)
    panels[1].axline((0, 0), slope=1, color="black", linewidth=0.8)
    panels[1].set(title=f"networks along {config.top} eigenvectors", xlabel=r"$q_i^T \tilde w$, predicted")
    panels[1].set_ylabel(r"$q_i^T \tilde w$, trained")
    panels[1].legend(fontsize="small", markerscale=3)
    panels[2].set(xscale="log", yscale="log", xlabel=r"$\alpha$ / the base $\alpha$", title="error of (3.13)")
    panels[2].set_ylabel(r"$\|\tilde w - $ predicted$\|$ / $\|\tilde w - w^\star\|$ in %")
    panels[2].legend(fontsize="small")
