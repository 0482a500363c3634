"""Forward and backward passes of an LSTM: by hand, by autodiff, and with torch, flax, haiku and equinox.

All use the same weight shapes, sequences and loss, in single precision, and differentiate by the parameters. The
installed peers and jnn take turns in one process; `pip install '.[peers]'` installs all of them. Torch uses all cores;
of jnn there is also the batch split over a device for each core. Ratios are relative to `lstm.unroll`. `--growth`
measures how run time and compilation time grow with T and B instead, `--windows` what a character costs a language
model that is trained on windows of T.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from jnn import convert, language, lstm, parallel

MODULES = {"torch": "torch", "flax": "flax", "haiku": "dm-haiku", "equinox": "equinox"}
PACKAGES = tuple(MODULES.values())


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"sizes": ((4, 32, 8, 16),), "rounds": 2}

    sizes: tuple[tuple[int, int, int, int], ...] = (
        (32, 128, 64, 128),
        (64, 100, 128, 256),
        (8, 512, 32, 64),
        (1, 1000, 16, 32),
    )
    """(B, T, p, d): batch size, sequence length, input size, memory size."""
    rounds: int = 30
    """Timings of each alternative."""
    growth: bool = False
    """Measure a decade of T and of B, and compilation, instead of the peers."""
    segments: bool = False
    """Measure time and memory with rematerialisation from every k-th state, instead of the peers."""
    windows: bool = False
    """Measure time and memory per character as T grows, for a language model, instead of the peers."""


def problem(B: int, T: int, p: int, d: int) -> tuple[lstm.Params, jax.Array, jax.Array]:
    """Parameters, sequences [T, B, p], and the weights [T, B, d] of a loss that is linear in the working memories."""
    keys = jax.random.split(jax.random.key(0), 3)
    return lstm.init(keys[0], p, d), jax.random.normal(keys[1], (T, B, p)), jax.random.normal(keys[2], (T, B, d))


def of_jax(run: Callable[[Any, jax.Array], jax.Array], params: Any, xs: jax.Array, weights: jax.Array) -> Any:
    """Two programs of run(params, xs) -> working memories: the forward pass, and forward and backward pass."""
    forwards = jax.jit(lambda params, xs, weights: jnp.sum(run(params, xs) * weights))
    both = jax.jit(jax.value_and_grad(lambda params, xs, weights: jnp.sum(run(params, xs) * weights)))
    return tuple(lambda f=f: jax.block_until_ready(f(params, xs, weights)) for f in (forwards, both))


def split(run: Callable[[Any, jax.Array], jax.Array], params: Any, xs: jax.Array, weights: jax.Array) -> Any:
    """The same two programs, with the batch split over all devices."""
    mesh = parallel.mesh()
    by_rows = jax.sharding.PartitionSpec(None, "batch")
    return of_jax(run, parallel.place(mesh, params), *parallel.place(mesh, (xs, weights), by_rows))


def of_torch(params: lstm.Params, xs: jax.Array, weights: jax.Array, *, device: str = "cpu") -> Any:
    """The same two programs with torch.nn.LSTM on the device."""
    torch = importlib.import_module("torch")

    d, p = params.rem.W.shape
    net = torch.nn.LSTM(p, d)
    net.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in convert.to_torch(params).items()})
    net.to(device)
    x, w = (torch.tensor(np.asarray(a)).to(device) for a in (xs, weights))

    def forwards() -> None:
        with torch.no_grad():
            (net(x)[0] * w).sum().item()

    def both() -> None:
        net.zero_grad()
        (net(x)[0] * w).sum().backward()
        net.weight_hh_l0.grad[0, 0].item()  # waits for the device

    return forwards, both


def of_flax(params: lstm.Params, xs: jax.Array, weights: jax.Array) -> Any:
    """The same with flax.linen's OptimizedLSTMCell in an RNN, from its own initialisation."""
    linen = importlib.import_module("flax.linen")

    net = linen.RNN(linen.OptimizedLSTMCell(len(params.rem.b)), time_major=True)
    return of_jax(net.apply, net.init(jax.random.key(0), xs), xs, weights)


def of_haiku(params: lstm.Params, xs: jax.Array, weights: jax.Array) -> Any:
    """The same with haiku's LSTM and dynamic_unroll, from its own initialisation."""
    haiku = importlib.import_module("haiku")

    def net(xs: jax.Array) -> jax.Array:
        cell = haiku.LSTM(len(params.rem.b))
        return haiku.dynamic_unroll(cell, xs, cell.initial_state(xs.shape[1]))[0]

    pure = haiku.without_apply_rng(haiku.transform(net))
    return of_jax(pure.apply, pure.init(jax.random.key(0), xs), xs, weights)


def of_equinox(params: lstm.Params, xs: jax.Array, weights: jax.Array) -> Any:
    """The same with equinox's LSTMCell and lax.scan, from its own initialisation."""
    equinox = importlib.import_module("equinox")

    d, p = params.rem.W.shape
    cell = equinox.nn.LSTMCell(p, d, key=jax.random.key(0))

    def run(cell: Any, xs: jax.Array) -> jax.Array:
        def one(state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(cell)(x, state)
            return state, state[0]

        zeros = jnp.zeros((xs.shape[1], d))
        return jax.lax.scan(one, (zeros, zeros), xs)[1]

    return of_jax(run, cell, xs, weights)


def by(run: Any, **options: Any) -> Callable[[lstm.Params, jax.Array], jax.Array]:
    """`lstm.unroll` or `lstm.scan` as a function (params, xs) -> working memories, from a zero state."""
    return lambda params, xs: run(params, lstm.zero_state(len(params.rem.b)), xs, **options)[1].wm


def peers(config: Config) -> Iterator[timing.Table]:
    """Yield jnn against the installed peers at every size: the forward pass, then both passes."""
    makers = {"torch": of_torch, "flax": of_flax, "haiku": of_haiku, "equinox": of_equinox}
    found = [name for name in makers if importlib.util.find_spec(name)]
    for size in config.sizes:
        arguments = problem(*size)
        divisible = size[0] % jax.device_count() == 0
        pairs = {
            "lstm.unroll": of_jax(by(lstm.unroll), *arguments),
            **({"split over the cores": split(by(lstm.unroll), *arguments)} if divisible else {}),
            "lstm.scan, autodiff": of_jax(by(lstm.scan), *arguments),
            **{name: makers[name](*arguments) for name in found},
        }
        for i, what in enumerate(("forwards", "forwards and backwards")):
            seconds = timing.interleaved({name: pair[i] for name, pair in pairs.items()}, config.rounds)
            title = f"(B, T, p, d) = {size}, {what}"
            yield timing.Table(title, seconds, notes=tuple(timing.missing(MODULES)))


def growth(config: Config) -> Iterator[timing.Table]:
    """Yield run time and compilation time over a decade of T, then of B."""
    for axis, sizes in (
        ("T", [(8, T, 32, 64) for T in (100, 200, 500, 1000)]),
        ("B", [(B, 100, 32, 64) for B in (16, 32, 80, 160)]),
    ):
        alternatives, compilation = {}, {}
        for size in sizes:
            params, xs, weights = problem(*size)
            alternatives[f"{size}"] = of_jax(by(lstm.unroll), params, xs, weights)[1]
            compilation[f"{size}"] = lambda a=(params, xs, weights): of_jax(by(lstm.unroll), *a)[1]()
        title = f"(B, T, p, d) over a decade of {axis}, forwards and backwards"
        yield timing.Table(title, timing.interleaved(alternatives, config.rounds))
        yield timing.Table(f"{title}: compilation and one run", timing.interleaved(compilation, 3))


def segments(config: Config) -> Iterator[timing.Table]:
    """Yield time and memory of the gradient of a loss on the last state, at T = 4096 with every k-th state kept."""
    params, xs, weights = problem(8, 4096, 32, 64)

    def run(steps: int | None) -> Any:
        def loss(params: lstm.Params, xs: jax.Array, weights: jax.Array) -> jax.Array:
            last, _ = lstm.unroll(params, lstm.zero_state(64), xs, remat_every=steps)
            return jnp.sum(last.wm * weights[-1])

        return jax.jit(jax.grad(loss))

    alternatives, memory = {}, {}
    for steps in (None, 16, 64, 256):
        name, compiled = f"remat_every = {steps}", run(steps).lower(params, xs, weights).compile()
        memory[name] = f"{timing.memory(compiled) / 2**20:.1f} MiB"
        alternatives[name] = lambda f=compiled: jax.block_until_ready(f(params, xs, weights))
    seconds = timing.interleaved(alternatives, config.rounds)
    yield timing.Table("(B, T, p, d) = (8, 4096, 32, 64), backwards from the last state", seconds, memory)


def windows(config: Config) -> Iterator[timing.Table]:
    """Yield time and memory per character of the gradient of `language.cost`, T from 32 to 1,024."""
    rows, cells, characters = 64, 384, 128
    params = language.init(jax.random.key(0), characters, 32, cells)
    gradient = jax.jit(jax.value_and_grad(language.cost, has_aux=True))
    lengths = {f"T = {T}": T for T in (32, 64, 128, 256, 512, 1024)}
    alternatives, remarks = {}, {}
    for name, T in lengths.items():
        xs = jax.random.randint(jax.random.key(T), (rows, T + 1), 0, characters)
        arguments = (params, language.zero_states(params, rows), xs)
        compiled = gradient.lower(*arguments).compile()
        remarks[name] = f"{timing.memory(compiled) / rows / T / 2**10:.1f} KiB for each character"
        alternatives[name] = lambda f=compiled, a=arguments: jax.block_until_ready(f(*a))
    measured = timing.interleaved(alternatives, config.rounds)
    seconds = {name: [1_000 * t / rows / T for t in measured[name]] for name, T in lengths.items()}
    yield timing.Table(
        f"(B, p, d) = ({rows}, 32, {cells}), forwards and backwards, for 1,000 characters", seconds, remarks
    )


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield the tables of the peers, of growth, of segments or of windows."""
    others = {"growth": growth, "segments": segments, "windows": windows}
    return next((table for name, table in others.items() if getattr(config, name)), peers)(config)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", timing.cores())
    sys.exit(timing.main(sys.modules[__name__]))
