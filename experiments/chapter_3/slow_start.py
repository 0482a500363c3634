"""Exercise 3.2: a saturated neuron learns slowly with the quadratic cost and fast with the cross-entropy.

First Nielsen's neuron with the input 1 and the desired output 0, from his two starting points and from many random
points: the quadratic cost's first step is the cross-entropy's times sigma'(z). Then whole networks whose output neurons
start saturated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from matplotlib.lines import Line2D

from experiments import common, runner
from jnn import activations, backprop, costs, mlp, train

COSTS = {"quadratic": costs.quadratic, "cross-entropy": costs.cross_entropy}
STARTS = {"w = 0.6, b = 0.9": (0.6, 0.9), "w = b = 2": (2.0, 2.0)}
REACHED = 0.1
"""A neuron has learnt once its output is below this."""

READS = 0.9
"""A network has learnt once its test accuracy is this."""


@dataclass(frozen=True)
class Config(common.Images):
    quick: ClassVar[dict[str, Any]] = {"neurons": 20, "updates": 1000, "epochs": 12, "saturation": 4.0, "seeds": 2}

    eta: runner.NotNegative = 0.15
    """Learning rate of the neurons."""
    neurons: int = 200
    """Random starting points of a neuron."""
    largest: runner.NotNegative = 6.0
    """Upper bound of the initial weighted inputs, which are above 0."""
    updates: int = 4000
    """Steps of a neuron."""
    data: Literal["mnist", "digits"] = "digits"
    hidden: int = 30
    """Hidden neurons of the networks."""
    saturation: runner.NotNegative = 6.0
    """Initial bias of the networks' output neurons; 0 is not saturated."""
    network_eta: runner.NotNegative = 0.5
    """Learning rate of the networks."""
    epochs: int = 30
    """Passes of the networks over the training images."""


def neuron(w: Any, b: Any) -> mlp.Params:
    """One sigmoid neuron with one input."""
    return (mlp.Layer(w=jnp.reshape(w, (1, 1)), b=jnp.reshape(b, (1,))),)


def learn(config: Config, cost: costs.Cost, w: Any, b: Any) -> Any:
    """The outputs of a neuron for the input 1 before each of its steps towards 0."""
    one, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    grad, optimizer = Partial(backprop.minibatch_value_and_grad, cost=cost), train.sgd(config.eta)
    options = {"epochs": config.updates, "batch_size": 1, "evaluate": lambda params: mlp.forward(params, one[0])[0]}
    key = jax.random.key(0)  # one example has one order
    _, history = train.run(key, grad, optimizer, train.init(optimizer, neuron(w, b)), (one, zero), **options)
    return jnp.concatenate([activations.sigmoid(jnp.atleast_1d(w + b)), history.metrics])


def networks(training: runner.Training, config: Config, name: str, cost: costs.Cost, saturation: float) -> Any:
    """Test accuracies [seeds, epochs] of networks whose output biases start at `saturation`."""
    images, test = common.load(config)
    optimizer = train.sgd(config.network_eta)

    def start(key: Any) -> train.State:
        first, last = mlp.init(key, (images.xs.shape[1], config.hidden, 10))
        return train.init(optimizer, (first, last._replace(b=last.b + saturation)))

    state, train_keys = runner.init_members(jax.random.key(config.seed), config.seeds, start)
    grad = Partial(backprop.minibatch_value_and_grad, cost=cost)
    evaluate = Partial(mlp.accuracy, xs=test.xs, labels=test.labels)
    options = {"epochs": config.epochs, "evaluate": evaluate, "name": name, "progress": False}
    _, history = common.fit_images(training, train_keys, grad, optimizer, state, images, **options)
    return history.metrics


ARRAYS = {
    "first_outputs": ("neurons", "the output of each neuron at its random starting point"),
    "* from *": ("steps", "the output of a neuron with this cost before each step from this starting point"),
    "steps_*": ("neurons", "the steps until each neuron has learnt; one more than were made if it never does"),
    "first_steps_*": ("neurons", "the derivative of this cost with respect to z at the starting point"),
    "saturated_*": ("seeds epochs", "test accuracies of networks with this cost whose output neurons start saturated"),
    "plain_*": ("seeds epochs", "test accuracies of networks with this cost whose output biases start at 0"),
    "epochs_of_*": ("", "the mean of the epochs until these networks have learnt"),
    "epochs_*": ("seeds", "the epochs until each network has learnt; one more than were made if it never does"),
}


def compute(config: Config, training: runner.Training = runner.ALONE) -> dict[str, Any]:
    """Learning curves, and the steps or epochs until each has learnt (one more than were made if it never does)."""
    z_key, share_key = jax.random.split(jax.random.key(config.seed))
    z = jax.random.uniform(z_key, (config.neurons,), maxval=config.largest)
    w = z * jax.random.uniform(share_key, (config.neurons,))
    found: dict[str, Any] = {"first_outputs": activations.sigmoid(z)}
    for name, cost in COSTS.items():
        for start, (w_0, b_0) in STARTS.items():
            found[f"{name} from {start}"] = learn(config, cost, jnp.asarray(w_0), jnp.asarray(b_0))
        outputs = jax.vmap(lambda w, b, cost=cost: learn(config, cost, w, b))(w, z - w)
        found[f"steps_{name}"] = first(outputs < REACHED)
        found[f"first_steps_{name}"] = cost.delta(z[:, None], jnp.zeros((len(z), 1)))[:, 0]
        for kind, saturation in (("saturated", config.saturation), ("plain", 0.0)):
            curves = networks(training, config, f"{kind} {name}", cost, saturation)
            found[f"{kind}_{name}"] = curves
            epochs = np.asarray(first(curves >= READS)) + 1
            found[f"epochs_{kind}_{name}"] = epochs
            found |= runner.mean_and_standard_error(f"epochs_of_{kind}_networks_with_{name}", epochs)
    return found


def first(reached: Any) -> Any:
    """The first index along the last axis where `reached` is true, or the length of the axis."""
    return jnp.where(jnp.any(reached, axis=-1), jnp.argmax(reached, axis=-1), reached.shape[-1])


def claims(_: Config, arrays: runner.Arrays) -> runner.Claims:
    """The factor sigma', and how many steps it costs."""
    a = arrays["first_outputs"]
    quadratic, entropy = arrays["steps_quadratic"], arrays["steps_cross-entropy"]
    badly = a > 0.9
    return {
        "the quadratic cost's first step is the cross-entropy's times sigma'(z) = a (1 - a)": np.allclose(
            arrays["first_steps_quadratic"], arrays["first_steps_cross-entropy"] * a * (1 - a), rtol=1e-4, atol=1e-7
        ),
        "from every start the cross-entropy gets below 0.1 first": np.all(entropy < quadratic),
        "from a first output above 0.9, it needs less than half as many steps": np.all(
            entropy[badly] < quadratic[badly] / 2
        ),
        "every saturated network reaches 90 % in fewer epochs with the cross-entropy": np.all(
            arrays["epochs_saturated_cross-entropy"] < arrays["epochs_saturated_quadratic"]
        ),
    }


def draw(figure: runner.Figure, config: Config, arrays: runner.Arrays) -> None:
    """Nielsen's neuron, many neurons, and networks."""
    neurons, many, nets = common.panels(figure, (10, 3.6), 1, 3)
    starts = dict(zip(STARTS, ("--", "-"), strict=True))
    z = np.log(arrays["first_outputs"] / (1 - arrays["first_outputs"]))
    for name, colour in zip(COSTS, ("C1", "C0"), strict=True):
        for start, style in starts.items():
            neurons.plot(arrays[f"{name} from {start}"][:301], color=colour, linestyle=style)
        many.plot(z, arrays[f"steps_{name}"], ".", color=colour, label=name)
        for kind, style in (("saturated", "-"), ("plain", ":")):
            mean = 100 * arrays[f"{kind}_{name}"].mean(axis=0)
            nets.plot(np.arange(1, len(mean) + 1), mean, color=colour, linestyle=style)
    neurons.set(xlabel="step", ylabel="$a$ (desired output 0)", title="Nielsen's neuron", ylim=(0, 1.25))
    _legend(neurons, starts, "upper right")
    many.set(xlabel="$z$ at the start", ylabel="steps until $a < 0.1$", yscale="log")
    many.set_title("neurons from random starting points")
    nets.set(xlabel="epoch", ylabel="test accuracy / %", title=f"means of {config.seeds} networks")
    _legend(nets, {f"output biases at {config.saturation:g}": "-", "at 0": ":"}, "lower right")
    figure.legend(*many.get_legend_handles_labels(), loc="outside upper center", ncols=len(COSTS), markerscale=2)


def _legend(axes: Any, styles: Mapping[str, Any], place: str) -> None:
    """A legend of the line styles; the legend of the figure explains the colours."""
    lines = [Line2D([], [], color="black", linestyle=style, label=label) for label, style in styles.items()]
    axes.legend(handles=lines, fontsize="small", loc=place)
