"""An epoch of SGD on MNIST at four sizes: `train.epoch`, NumPy, scikit-learn, torch, flax, equinox, and a C program.

Networks of sigmoids with the cross-entropy. All start from the same parameters and see the same mini-batches in the
same order, so all must reach the same parameters; this is checked before anything is timed. Slow programs train on part
of the epoch, and their time is scaled up by the factor that the table gives. The rate of a large `jnp.matmul` and the
time of the shuffle, which only `train.epoch` has to do, are measured in the same rounds. Ratios are relative to
`train.epoch`.
"""

import ctypes
import functools
import importlib
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from benchmarks import timing
from jnn import backprop, costs, data, mlp, train
from jnn._internal import xla

PACKAGES = ("scikit-learn", "torch", "flax", "equinox", "optax")
MODULES = {"sklearn": "scikit-learn", "torch": "torch", "flax": "flax", "equinox": "equinox"}
MATMUL = "jnp.matmul"
SHUFFLE = "shuffle"


@dataclass(frozen=True)
class Config:
    """Sizes and number of timings."""

    quick: ClassVar[Mapping[str, Any]] = {"rounds": 2, "examples": 2_000, "rows": ("a",)}

    rows: tuple[str, ...] = ("a", "b", "c", "d")
    """Sizes and mini-batches: a is [784, 30, 10] and 10; b is [784, 100, 10] and 10; c is [784, 800, 10] and 128; d is
    [784, 1500, 1000, 500, 10] and 128."""
    examples: int = 60_000
    """Training images of an epoch."""
    eta: float = 0.5
    """The learning rate."""
    rounds: int = 10
    """Timings of each alternative."""


ROWS = {
    "a": ((784, 30, 10), 10),
    "b": ((784, 100, 10), 10),
    "c": ((784, 800, 10), 128),
    "d": ((784, 1500, 1000, 500, 10), 128),
}


class Problem(NamedTuple):
    """The input of all alternatives, as NumPy arrays in single precision."""

    params: list[Any]
    xs: np.ndarray
    ys: np.ndarray
    order: np.ndarray
    batch_size: int
    eta: float

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the rows of each mini-batch."""
        for start in range(0, len(self.order), self.batch_size):
            yield self.order[start : start + self.batch_size]


Layers = list[tuple[Any, Any]]
"""Trained layers (w [n_out, n_in], b [n_out])."""


def ours(problem: Problem) -> Callable[[], Layers]:
    """`train.epoch` with hand-derived gradients; the others use its order."""
    optimizer = train.sgd(problem.eta)
    state = train.init(optimizer, tuple(mlp.Layer(*map(jnp.asarray, layer)) for layer in problem.params))
    examples = (jnp.asarray(problem.xs), jnp.asarray(problem.ys))
    grad = Partial(backprop.minibatch_value_and_grad, cost=costs.cross_entropy)

    def run() -> Layers:
        key = jax.random.key(0)
        done = train.epoch(key, grad, optimizer, state, examples, batch_size=problem.batch_size)
        return [tuple(layer) for layer in jax.block_until_ready(done)[0].params]

    return run


def order_of(n: int) -> np.ndarray:
    """The order in which `ours` sees n examples."""
    return np.asarray(jax.random.permutation(jax.random.split(jax.random.key(0))[0], n)).astype(np.int32)


def book(problem: Problem) -> Callable[[], Layers]:
    """The algorithm at the end of chapter 2, in NumPy with double precision: loops over batches and over examples."""
    start = [(w.astype(np.float64), b.astype(np.float64)) for w, b in problem.params]
    xs, ys = problem.xs.astype(np.float64), problem.ys.astype(np.float64)

    def run() -> Layers:
        params = [(w.copy(), b.copy()) for w, b in start]
        for rows in problem.batches():
            sums = [(np.zeros_like(w), np.zeros_like(b)) for w, b in params]
            for i in rows:
                below = [xs[i]]
                for w, b in params:
                    below.append(1 / (1 + np.exp(-(w @ below[-1] + b))))
                delta = below.pop() - ys[i]
                for (w, _), (w_sum, b_sum), a in zip(params[::-1], sums[::-1], below[::-1], strict=True):
                    np.add(w_sum, np.outer(delta, a), out=w_sum)
                    np.add(b_sum, delta, out=b_sum)
                    delta = (w.T @ delta) * a * (1 - a)
            for (w, b), (w_sum, b_sum) in zip(params, sums, strict=True):
                np.subtract(w, problem.eta / len(rows) * w_sum, out=w)
                np.subtract(b, problem.eta / len(rows) * b_sum, out=b)
        return list(params)

    return run


def numpy(problem: Problem) -> Callable[[], Layers]:
    """NumPy in single precision, with matrix products for each mini-batch."""

    def run() -> Layers:
        params = [(w.copy(), b.copy()) for w, b in problem.params]
        for rows in problem.batches():
            below = [problem.xs[rows]]
            for w, b in params:
                below.append(1 / (1 + np.exp(-(below[-1] @ w.T + b))))
            delta = (below.pop() - problem.ys[rows]) / len(rows)
            for l in range(len(params) - 1, -1, -1):
                (w, b), a = params[l], below[l]
                w_grad, b_grad = delta.T @ a, delta.sum(axis=0)
                if l > 0:
                    delta = (delta @ w) * a * (1 - a)
                np.subtract(w, problem.eta * w_grad, out=w)
                np.subtract(b, problem.eta * b_grad, out=b)
        return list(params)

    return run


def compiled_c(problem: Problem) -> Callable[[], Layers]:
    """`mlp.c`, next to this file, compiled with -O3 -march=native."""
    library = _c_library()
    floats = ctypes.POINTER(ctypes.c_float)
    sizes = [problem.params[0][0].shape[1], *(len(b) for _, b in problem.params)]
    values = np.zeros(-(-len(problem.order) // problem.batch_size), np.float32)

    def pointer(a: np.ndarray) -> Any:
        return a.ctypes.data_as(floats)

    def run() -> Layers:
        params = [(w.copy(), b.copy()) for w, b in problem.params]
        pointers = [(floats * len(params))(*map(pointer, arrays)) for arrays in zip(*params, strict=True)]
        library.epoch(
            len(params),
            (ctypes.c_int * len(sizes))(*sizes),
            *pointers,
            pointer(problem.xs),
            pointer(problem.ys),
            problem.order.ctypes.data_as(ctypes.POINTER(ctypes.c_int)),
            len(problem.order),
            problem.batch_size,
            ctypes.c_float(problem.eta),
            pointer(values),
        )
        return list(params)

    return run


@functools.cache
def _c_library() -> Any:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ImportError("a C compiler is needed: cc, gcc or clang")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "mlp.so"
        flags = ["-O3", "-march=native", "-fopenmp-simd", "-shared", "-fPIC"]
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, *flags, str(source), "-lm", "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))


def sklearn(problem: Problem) -> Callable[[], Layers]:
    """scikit-learn's `MLPClassifier.partial_fit` on multilabel targets, which make its outputs sigmoids."""
    neural_network = importlib.import_module("sklearn.neural_network")
    net = neural_network.MLPClassifier(
        [len(b) for _, b in problem.params[:-1]],
        activation="logistic",
        solver="sgd",
        momentum=0.0,
        alpha=0.0,
        batch_size=problem.batch_size,
        learning_rate_init=problem.eta,
        shuffle=False,
    )
    labels = problem.ys.astype(int)
    first = problem.order[: problem.batch_size]
    net.partial_fit(problem.xs[first], labels[first], classes=np.arange(labels.shape[1]))

    def run() -> Layers:
        for i, (w, b) in enumerate(problem.params):
            net.coefs_[i][...], net.intercepts_[i][...] = w.T, b
        net.partial_fit(problem.xs[problem.order], labels[problem.order])
        return [(w.T, b) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]

    return run


def torch_eager(problem: Problem, *, compiled: bool = False, device: str = "cpu") -> Callable[[], Layers]:
    """torch.nn and torch.optim.SGD, in the usual loop, with everything on the device."""
    torch = importlib.import_module("torch")
    layers = [torch.nn.Linear(w.shape[1], w.shape[0]) for w, _ in problem.params]
    modules = [module for layer in layers for module in (layer, torch.nn.Sigmoid())][:-1]
    net = torch.nn.Sequential(*modules).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=problem.eta)
    xs, ys, order = (torch.from_numpy(a).to(device) for a in (problem.xs, problem.ys, problem.order))

    def loss(x: Any, y: Any) -> Any:
        return torch.nn.functional.binary_cross_entropy_with_logits(net(x), y, reduction="sum") / len(x)

    loss = torch.compile(loss) if compiled else loss

    def run() -> Layers:
        with torch.no_grad():
            for layer, (w, b) in zip(layers, problem.params, strict=True):
                layer.weight.copy_(torch.from_numpy(w))
                layer.bias.copy_(torch.from_numpy(b))
        for rows in order.split(problem.batch_size):
            optimizer.zero_grad()
            loss(xs[rows], ys[rows]).backward()
            optimizer.step()
        return [(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()) for layer in layers]

    return run


def torch_compiled(problem: Problem) -> Callable[[], Layers]:
    """The same with the loss under torch.compile."""
    return torch_eager(problem, compiled=True)


def flax(problem: Problem) -> Callable[[], Layers]:
    """flax.nnx: a jitted step in a Python loop, as in its guide."""
    nnx = importlib.import_module("flax.nnx")

    class Net(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(*w.shape[::-1], rngs=rngs) for w, _ in problem.params])

        def __call__(self, x: jax.Array) -> jax.Array:
            *below, last = self.layers
            for layer in below:
                x = jax.nn.sigmoid(layer(x))
            return last(x)

    def loss(net: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(net(x), y).sum() / len(x)

    @nnx.jit
    def step(net: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        value, grads = nnx.value_and_grad(loss)(net, x, y)
        optimizer.update(net, grads)
        return value

    descent = optax.sgd(problem.eta)

    def run() -> Layers:
        net = Net()
        for layer, (w, b) in zip(net.layers, problem.params, strict=True):
            layer.kernel[...], layer.bias[...] = jnp.asarray(w.T), jnp.asarray(b)
        optimizer = nnx.Optimizer(net, descent, wrt=nnx.Param)
        for rows in problem.batches():
            step(net, optimizer, problem.xs[rows], problem.ys[rows])
        return jax.block_until_ready([(layer.kernel[...].T, layer.bias[...]) for layer in net.layers])

    return run


def equinox(problem: Problem) -> Callable[[], Layers]:
    """equinox: a jitted step in a Python loop, with vmap over examples, as in its guide."""
    eqx = importlib.import_module("equinox")
    optimizer = optax.sgd(problem.eta)
    layers = [eqx.nn.Linear(*w.shape[::-1], key=jax.random.key(0)) for w, _ in problem.params]
    leaves = [jnp.asarray(a) for layer in problem.params for a in layer]
    layers = eqx.tree_at(lambda layers: [a for layer in layers for a in (layer.weight, layer.bias)], layers, leaves)
    net = eqx.nn.Sequential(
        [module for layer in layers for module in (layer, eqx.nn.Lambda(jax.nn.sigmoid))][:-1],
    )

    def loss(net: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(jax.vmap(net)(x), y).sum() / len(x)

    @eqx.filter_jit
    def step(net: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        value, grads = eqx.filter_value_and_grad(loss)(net, x, y)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(net, updates), opt_state, value

    def run() -> Layers:
        trained, opt_state = net, optimizer.init(eqx.filter(net, eqx.is_array))
        for rows in problem.batches():
            trained, opt_state, _ = step(trained, opt_state, problem.xs[rows], problem.ys[rows])
        trained = jax.block_until_ready(eqx.filter(trained, eqx.is_array))
        return [(layer.weight, layer.bias) for layer in trained.layers[::2]]

    return run


def jitted_step(problem: Problem) -> Callable[[], Layers]:
    """JAX and optax only: autodiff and update in one jitted step, in a Python loop."""
    optimizer = optax.sgd(problem.eta)
    start = [tuple(map(jnp.asarray, layer)) for layer in problem.params]

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        *below, (w_last, b_last) = params
        for w, b in below:
            x = jax.nn.sigmoid(x @ w.T + b)
        return optax.sigmoid_binary_cross_entropy(x @ w_last.T + b_last, y).sum() / len(x)

    @jax.jit
    def step(params: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    def run() -> Layers:
        params, opt_state = start, optimizer.init(start)
        for rows in problem.batches():
            params, opt_state, _ = step(params, opt_state, problem.xs[rows], problem.ys[rows])
        return jax.block_until_ready(params)

    return run


# Each trains on 1/n of an epoch; the numbers are n at the small and at the large sizes.
CONTENDERS: dict[str, tuple[Callable[[Problem], Callable[[], Layers]], int, int]] = {
    "train.epoch": (ours, 1, 1),
    "C": (compiled_c, 1, 50),
    "optax step": (jitted_step, 4, 4),
    "equinox": (equinox, 10, 4),
    "flax nnx": (flax, 20, 4),
    "torch": (torch_eager, 10, 4),
    "torch.compile": (torch_compiled, 10, 4),
    "scikit-learn": (sklearn, 10, 4),
    "NumPy": (numpy, 10, 4),
    "book": (book, 20, 500),
}


def check(trained: Mapping[str, tuple[Layers, int]], start: Callable[[int], Layers]) -> None:
    """Raise ValueError unless all that trained on n examples reached the parameters of `train.epoch` on them."""
    references: dict[int, Layers] = {}
    for name, (reached, n) in trained.items():
        expected = references.setdefault(n, start(n))
        for l, (found, right) in enumerate(zip(reached, expected, strict=True)):
            for a, b in zip(found, right, strict=True):
                error = float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
                if not error < 1e-3:
                    raise ValueError(f"{name} must reach train.epoch's parameters, got layer {l} off by {error:.1e}")


def row(config: Config, letter: str) -> timing.Table:
    """All contenders at one size."""
    sizes, batch_size = ROWS[letter]
    digits = data.mnist().train
    params = [tuple(map(np.asarray, layer)) for layer in mlp.init(jax.random.key(1), sizes)]
    xs, ys = np.array(digits.xs), np.array(data.one_hot(digits.labels, 10))

    @functools.cache
    def problem(n: int) -> Problem:
        return Problem(params, xs[:n], ys[:n], order_of(n), batch_size, config.eta)

    runs, parts, notes, trained = {}, {}, [*timing.missing(MODULES)], {}
    for name, (make, small, large) in CONTENDERS.items():
        part = large if batch_size > 10 else small
        n = max(config.examples // part // batch_size, 1) * batch_size if part > 1 else config.examples
        try:
            runs[name] = make(problem(n))
            trained[name] = ([tuple(map(np.array, layer)) for layer in runs[name]()], n)
        except ImportError as error:
            runs.pop(name, None)
            notes.append(f"{name} is left out: {error}")
            continue
        parts[name] = config.examples / n
    check(trained, lambda n: ours(problem(n))())
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    matmul = jax.jit(jnp.matmul)
    runs[MATMUL] = lambda: jax.block_until_ready(matmul(square, square))
    shuffled = jax.jit(functools.partial(xla.permutation, n=config.examples))
    runs[SHUFFLE] = lambda: jax.block_until_ready(shuffled(jax.random.key(0)))
    seconds = timing.interleaved(runs, config.rounds, warm_up=1)
    rate = 2 * 2048**3 / statistics.median(seconds.pop(MATMUL))
    shuffle = statistics.median(seconds.pop(SHUFFLE))
    seconds = {name: [parts[name] * second for second in times] for name, times in seconds.items()}
    weights = [n_in * n_out for n_in, n_out in itertools.pairwise(sizes)]
    arithmetic = config.examples * (6 * sum(weights) - 2 * weights[0])
    reached = arithmetic / statistics.median(seconds["train.epoch"])
    notes.append(
        f"train.epoch reaches {reached / 1e9:.0f} GFLOP/s in its matrix products, {reached / rate:.2f} of the "
        f"{rate / 1e9:.0f} GFLOP/s of a jnp.matmul of 2048 x 2048"
    )
    notes.append(f"{1e3 * shuffle:.0f} ms of train.epoch are its shuffle, which the others do not do")
    remarks = {name: f"{1 / part:.2g} of an epoch" for name, part in parts.items() if part > 1.5}
    return timing.Table(f"({letter}) {list(sizes)}, mini-batch {batch_size}", seconds, remarks, notes)


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield a table for each row."""
    if unknown := set(config.rows) - ROWS.keys():
        raise ValueError(f"rows must be among {', '.join(ROWS)}, got {', '.join(sorted(unknown))}")
    for letter in config.rows:
        yield row(config, letter)


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
