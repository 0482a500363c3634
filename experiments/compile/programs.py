"""The training programs of experiments: recorded where the experiment would train, and traced for some devices."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from jax.tree_util import Partial

from experiments import load, runner
from experiments.runner.training import shared_sharding
from jnn import train

FUNCTIONS = ("transform", "evaluate", "eval_params")
"""What a training run may take beside its gradient; arrays that are bound to one are arguments of the program, too."""


class Program(NamedTuple):
    """A training run: the arguments of `Training.fit`."""

    key: Any
    optimizer: Any
    state: Any
    data: tuple[Any, ...]
    functions: dict[str, Any]
    options: dict[str, Any]
    recurrent: bool

    @property
    def steps(self) -> int:
        """Full mini-batches of an epoch."""
        return len(self.data[0]) // self.options["batch_size"]


class Traced(NamedTuple):
    """A program that is traced for some devices.

    Attributes:
      share: The devices that share each mini-batch.
    """

    program: Program
    traced: Any
    share: int

    def operations(self) -> dict[str, float]:
        """Those of the products in a step on each device, by what their rate depends on."""
        turns = (self.program.options["epochs"], self.program.steps)
        found = counted(step_of(self.traced.jaxpr.jaxpr, turns))
        return {kind: number / self.share for kind, number in found.items()}


class Recorded(Exception):  # noqa: N818
    """Ends an experiment at its first training run, which it carries."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program


class Recorder(runner.Training):
    """Raises what it should train."""

    def fit(self, key: Any, *args: Any, batch_size: int, recurrent: bool = False, **options: Any) -> Any:
        """Raises `Recorded`. The parameters are those of `Training.fit`."""
        grad, optimizer, state, data = args
        known = inspect.signature(train.run).parameters.keys() - {"sharding", "history"}
        options = {name: value for name, value in options.items() if name in known}
        given = {"grad": grad, **{name: options.pop(name, None) for name in FUNCTIONS}}
        functions = {name: f if isinstance(f, Partial) else Partial(f) for name, f in given.items() if f is not None}
        options = {"batch_size": batch_size, **options}
        raise Recorded(Program(key, optimizer, state, tuple(data), functions, options, recurrent))


def trains(name: str) -> bool:
    """Whether the experiment has a training run that can be recorded."""
    return "training" in inspect.signature(load(name).compute).parameters


def recorded(name: str) -> Program:
    """The first training run of an experiment at its default size."""
    experiment = load(name)
    try:
        experiment.compute(experiment.Config(), training=Recorder())
    except Recorded as found:
        return found.program
    raise ValueError(f"an experiment that trains must train by training.fit, {name} does not")


def whole(program: Program, sharding: NamedSharding | None = None) -> Callable[..., Any]:
    """The training run as a function of (functions, data, key, state), of all members together if there are several."""

    def one(functions: dict[str, Any], data: Any, key: Any, state: Any) -> Any:
        options = {**program.options, **functions, "sharding": sharding}
        return train.run(key, options.pop("grad"), program.optimizer, state, data, **options)

    return jax.vmap(one, (None, None, 0, 0)) if program.key.ndim else one


def traced(program: Program, devices: Sequence[Any]) -> Traced:
    """The program as `Training.fit` divides it among the devices: members, or mini-batches if members are fewer."""
    members, n = program.key.size, len(devices)
    sharding = shared_sharding(members, program.options["batch_size"], recurrent=program.recurrent, devices=devices)
    arguments = program.functions, program.data, program.key, program.state
    run, share = whole(program, sharding), 1
    everywhere = each = SingleDeviceSharding(devices[0])
    slots = members
    if sharding is not None:
        everywhere = each = NamedSharding(sharding.mesh, PartitionSpec())
        share = sharding.mesh.shape["batch"]
    elif n > 1:
        mesh = jax.make_mesh((n,), ("members",), (jax.sharding.AxisType.Auto,), devices=devices)
        alone, spread = PartitionSpec(), PartitionSpec("members")
        run = jax.shard_map(run, mesh=mesh, in_specs=(alone, alone, spread, spread), out_specs=spread, check_vma=False)
        everywhere, each = NamedSharding(mesh, alone), NamedSharding(mesh, spread)
        slots = math.ceil(members / n) * n  # as many on each device
    shapes = abstract(arguments[:2], everywhere), abstract(arguments[2:], each, slots if program.key.ndim else None)
    return Traced(program, jax.jit(run).trace(*shapes[0], *shapes[1]), share)


def abstract(tree: Any, sharding: Any, members: int | None = None) -> Any:
    """The shapes of the arrays in a tree, on devices that are not there; the leading axis becomes `members`."""

    def shape(leaf: Any) -> Any:
        own = jnp.shape(leaf)
        own = own if members is None else (members, *own[1:])
        return jax.ShapeDtypeStruct(own, getattr(leaf, "dtype", None) or jnp.result_type(leaf), sharding=sharding)

    return jax.tree.map(shape, tree)


def step_of(jaxpr: Any, turns: tuple[int, ...]) -> Any:
    """The body of the scan of this length in the scan of the epochs, which has most operations if there are several."""
    for length in turns:
        inside = [body for n, body in scans(jaxpr) if n == length]
        if not inside:
            raise ValueError(f"the program must have a scan of {length} turns, got {[n for n, _ in scans(jaxpr)]}")
        jaxpr = max(inside, key=lambda body: sum(counted(body).values()))
    return jaxpr


def scans(jaxpr: Any) -> Iterator[tuple[int, Any]]:
    """Yield the length and the body of each scan, without those inside."""
    for equation in jaxpr.eqns:
        for inner in inside(equation):
            yield from [(equation.params["length"], inner)] if equation.primitive.name == "scan" else scans(inner)


def counted(jaxpr: Any) -> dict[str, float]:
    """Operations of all products, by "bfloat16" or their precision; a scan's times its length, of branches the most."""
    found: dict[str, float] = {}
    for equation in jaxpr.eqns:
        name, times = equation.primitive.name, equation.params.get("length", 1)
        if name in ("dot_general", "conv_general_dilated"):
            parts = [product(equation)]
        else:
            parts = [counted(inner) for inner in inside(equation)]
            parts = [max(parts, key=lambda part: sum(part.values()))] if name == "cond" else parts
        for kind, number in ((kind, number) for part in parts for kind, number in part.items()):
            found[kind] = found.get(kind, 0.0) + number * (times if name == "scan" else 1)
    return found


def product(equation: Any) -> dict[str, float]:
    """A multiplication and an addition for each entry of the result and each index that is summed over."""
    (left, right), out = (v.aval for v in equation.invars), equation.outvars[0].aval
    if equation.primitive.name == "dot_general":
        summed = math.prod(left.shape[i] for i in equation.params["dimension_numbers"][0][0])
    else:
        numbers = equation.params["dimension_numbers"]
        summed = math.prod(right.shape) // right.shape[numbers.rhs_spec[0]]
    precision = equation.params["precision"]
    precision = precision[0] if isinstance(precision, tuple) else precision
    exact = precision is not None and jax.lax.Precision(precision) == jax.lax.Precision.HIGHEST
    kind = "bfloat16" if left.dtype == jnp.bfloat16 else "highest" if exact else "default"
    return {kind: 2.0 * math.prod(out.shape) * summed}


def inside(equation: Any) -> Iterator[Any]:
    """Yield the jaxprs in an equation."""
    for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
        if hasattr(leaf, "eqns"):
            yield getattr(leaf, "jaxpr", leaf)
