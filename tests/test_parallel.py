import json
import os
import re
import socket
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from jnn import augment, backprop, checkpoint, dropout, lstm, mlp, parallel, stopping, train
from jnn.train import program
from tests.helpers import Tensor, assert_same_bits, examples, network, normal, raises, relative_error

SIZES = (16, 24, 3)
OPTIMIZER = optax.sgd(0.5, momentum=0.9)
BOUND = 2e-6
"""The most by which parameters may differ after 6 epochs, relative to the largest of a leaf: sums in another order."""

SPLIT_LAYERS = (mlp.Layer(P("model", None), P("model")), mlp.Layer(P(None, "model"), P()))


def training(program=train.fit, *, n=40, batch_size=8, params=None, sharding=None, data=None, **options):
    params = mlp.init(jax.random.key(1), SIZES) if params is None else params
    if program is train.fit:
        options["progress"] = False
    return program(
        jax.random.key(0),
        backprop.minibatch_value_and_grad,
        OPTIMIZER,
        train.init(OPTIMIZER, params),
        data or examples(2, n, SIZES),
        batch_size=batch_size,
        sharding=sharding,
        **options,
    )


def on(devices, model=1):
    return parallel.mesh(model=model, devices=jax.devices()[:devices])


@pytest.fixture(scope="module")
def alone():
    """A training run on one device, which others repeat."""
    return training(epochs=6)


@pytest.mark.parametrize(("program", "devices", "n"), [(train.run, 2, 40), (train.fit, 8, 43)])
def test_any_number_of_devices_trains_the_same_network(program, devices, n):
    """Also where the last mini-batch is smaller."""
    alone, history = training(program, n=n, epochs=6)
    state, sharded = training(program, n=n, epochs=6, sharding=parallel.batches(on(devices)))
    assert sharded.losses.shape == history.losses.shape == (6, -(-n // 8))
    assert relative_error(state.params, alone.params) < BOUND
    assert relative_error(sharded.losses, history.losses) < BOUND
    assert len(state.params[0].w.sharding.device_set) == devices


def test_a_mesh_as_jaxs_documentation_makes_it():
    """Its axes are explicit, and have other names; state and data may lie on it already."""
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    alone, _ = training(train.epoch)
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    state, _ = training(train.epoch, sharding=split)
    assert relative_error(state, alone) < BOUND
    data = jax.device_put(examples(2, 40, SIZES), split)
    start = jax.device_put(train.init(OPTIMIZER, mlp.init(jax.random.key(1), SIZES)), whole)
    there, _ = train.epoch(jax.random.key(0), backprop.minibatch_value_and_grad, OPTIMIZER, start, data, batch_size=8)
    assert relative_error(there, alone) < BOUND


def unrolled(unroll, init, zero_state):
    params = init(jax.random.key(0), 3, 5)

    def loss(params, xs, mask):
        last, states = unroll(params, zero_state(5), xs, mask=mask)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves((last, states))), (last, states)

    return lambda xs, mask: jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs, mask)


def trained(xs, ys):
    """A training run inside of a program of the caller's, which has the data as traced arrays."""
    state = train.init(OPTIMIZER, mlp.init(jax.random.key(1), SIZES))
    grad = backprop.minibatch_value_and_grad
    state, losses = train.epoch(jax.random.key(0), grad, OPTIMIZER, state, (xs, ys), batch_size=6)
    return losses, train.run(jax.random.key(0), grad, OPTIMIZER, state, (xs, ys), epochs=1, batch_size=8)


SEQUENCES = normal(0, 5, 8, 3), normal(1, 5, 8) > 0
ROWS = examples(2, 40, SIZES)
LSTM = unrolled(lstm.unroll, lstm.init, lstm.zero_state), SEQUENCES
GRADIENTS = {
    "lstm.unroll": LSTM,
    "lstm.unroll in segments": (unrolled(partial(lstm.unroll, remat_every=2), lstm.init, lstm.zero_state), SEQUENCES),
    "dropout": (partial(dropout.minibatch_value_and_grad, network(1, SIZES), key=jax.random.key(3), p=0.5), ROWS),
}
WITHIN_A_PROGRAM = {"lstm.unroll": LSTM, "a training run": (trained, ROWS)}


@pytest.mark.parametrize("name", WITHIN_A_PROGRAM)
def test_auto_axes_serves_functions_of_arrays_on_explicit_axes(name):
    """As docs/devices.md describes it; without, JAX refuses what is ambiguous."""
    f, (first, second) = WITHIN_A_PROGRAM[name]
    spec = P("data") if first is ROWS[0] else P(None, "data")
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    split = jax.device_put((first, second), NamedSharding(mesh, spec))
    automatic = jax.sharding.auto_axes(f, out_sharding=NamedSharding(mesh, P()))
    assert relative_error(jax.jit(automatic)(*split), jax.jit(f)(first, second)) < BOUND
    with pytest.raises(Exception, match="out_sharding|output should be sharded"):
        jax.jit(f)(*split)


@pytest.mark.parametrize("name", GRADIENTS)
def test_devices_that_share_a_batch_send_only_sums(name):
    """Each computes the gradient of its rows: none gathers the rows of others."""
    f, (first, second) = GRADIENTS[name]
    spec = P("batch") if first is ROWS[0] else P(None, "batch")
    split = parallel.place(parallel.mesh(devices=jax.devices()[:4]), (first, second), spec)
    program = jax.jit(f).lower(*split).compile().as_text()
    sent = set(re.findall(r" ((?:all|collective|reduce)-[a-z-]+)\(", program))
    assert sent == {"all-reduce"}


def test_a_sweep_over_explicit_axes():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    xs = jax.device_put(normal(0, 8, 3), NamedSharding(mesh, P("data")))
    sums = parallel.sweep(Partial(lambda scale, xs: scale * jnp.sum(xs), xs=xs), jnp.arange(3.0))
    assert relative_error(sums, jnp.arange(3.0) * jnp.sum(normal(0, 8, 3))) < BOUND


def test_the_work_is_split():
    """Each device multiplies its own rows, 2 of the 8 of a mini-batch, and sends its gradient and nothing else."""
    mesh = on(4)
    state = parallel.place(mesh, train.init(OPTIMIZER, mlp.init(jax.random.key(1), SIZES)))
    data = parallel.place(mesh, examples(2, 40, SIZES))
    fixed, options = (jax.random.key(0), backprop.minibatch_value_and_grad, OPTIMIZER), {"batch_size": 8}
    program = jax.jit(lambda *arrays: train.epoch(*fixed, *arrays, sharding=parallel.batches(mesh), **options))
    text = program.lower(state, data).compile().as_text()
    assert "f32[2,24]" in text
    assert "f32[8,24]" not in text
    (sent,) = re.findall(r"= \((.*)\) all-reduce\(", text)  # once a step: the gradient, and the value, "f32[]"
    shapes = re.findall(r"f32\[([\d,]*)\]", sent)
    entries = sum(np.prod([int(n) for n in shape.split(",") if n], dtype=int) for shape in shapes)
    assert entries == sum(leaf.size for leaf in jax.tree.leaves(state.params)) + 1


def test_wide_layers_split_over_the_other_axis(alone):
    mesh = on(8, model=4)
    params = parallel.place(mesh, mlp.init(jax.random.key(1), SIZES), SPLIT_LAYERS)
    assert params[0].w.addressable_shards[0].data.shape == (6, 16)
    state, _ = training(epochs=6, params=params, sharding=parallel.batches(mesh))
    assert relative_error(state.params, alone[0].params) < BOUND


def test_rows_that_lie_on_their_own_device(alone):
    mesh = on(4)
    xs, ys = parallel.place(mesh, examples(2, 40, SIZES), P("batch"))
    assert xs.addressable_shards[1].data.shape == (10, 16)
    np.testing.assert_array_equal(xs, examples(2, 40, SIZES)[0])
    state, _ = training(train.run, epochs=6, data=(xs, ys), sharding=parallel.batches(mesh))
    assert relative_error(state.params, alone[0].params) < BOUND


def test_augmentation_and_stopping_on_devices():
    options = {
        "epochs": 6,
        "transform": partial(augment.rows, image_transform=partial(augment.shift, pixels=1.0), shape=(4, 4)),
        "evaluate": lambda params: jnp.mean(params[0].w ** 2),
        "stopping": stopping.error_change(window=2),
    }
    (alone, history), (state, sharded) = (
        training(train.run, sharding=sharding, **options) for sharding in (None, parallel.batches(on(4)))
    )
    assert int(history.epochs) == int(sharded.epochs)
    assert relative_error(state.params, alone.params) < BOUND


def together(arguments):
    """Two processes of two devices each, which find each other over loopback, as of a launcher that sets variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ
            | {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(i),
                "JAX_NUM_CPU_DEVICES": "2",
                "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return said


PROCESS = """
import sys
import jax
import numpy as np
from jnn import checkpoint, mlp, parallel
assert parallel.start() and parallel.start()
from jax.sharding import PartitionSpec
from tests.helpers import examples
from tests.test_parallel import SIZES, SPLIT_LAYERS, training
assert jax.process_count() == 2 and jax.device_count() == 4

def save(name, state, history):
    arrays = jax.tree.leaves(parallel.local((state.params, history.losses)))
    if jax.process_index() == 0:
        np.savez(f"{sys.argv[1]}/{name}.npz", *arrays)

save("rows", *training(epochs=6, sharding=parallel.batches(parallel.mesh())))

mesh = parallel.mesh(model=4)
options = {"sharding": parallel.batches(mesh), "epochs": 6}
params = parallel.place(mesh, mlp.init(jax.random.key(1), SIZES), SPLIT_LAYERS)
assert len(params[0].w.addressable_shards) == 2 and params[0].w.addressable_shards[0].data.shape == (6, 16)
save("layers", *training(params=params, **options))
folder = checkpoint.Checkpoints(f"{sys.argv[1]}/checkpoints")
training(params=params, **(options | {"epochs": 3}), checkpoints=folder)
state, history = training(params=params, **options, checkpoints=folder)
assert state.params[0].w.addressable_shards[0].data.shape == (6, 16)
save("in two parts", state, history)

# Data that no process holds whole, in which one number is not finite
mesh, data = parallel.mesh(), examples(2, 40, SIZES)
data = [parallel.place(mesh, np.array(a), PartitionSpec("batch")) for a in (data[0].at[33, 1].set(np.nan), data[1])]
try:
    training(epochs=1, sharding=parallel.batches(mesh), data=tuple(data))
except FloatingPointError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_processes_of_two_devices_over_loopback(alone, tmp_path):
    """Mini-batches split between them; layers split between them; and that from a checkpoint, to the last bit.

    Of data that are split between them, the process that holds a number that is not finite names it.
    """
    (_, _), (second, _) = together(["-c", PROCESS, str(tmp_path)])
    assert "data[0] of this process is not finite in 1 of 10 examples, first in row 3" in second
    alone, history = alone
    found = {name: list(np.load(tmp_path / f"{name}.npz").values()) for name in ("rows", "layers", "in two parts")}
    for name in ("rows", "layers"):
        *params, values = found[name]
        assert relative_error(params, jax.tree.leaves(alone.params)) < BOUND
        assert relative_error(values, history.losses) < BOUND
    for whole, parts in zip(found["layers"], found["in two parts"], strict=True):
        np.testing.assert_array_equal(parts, whole)


@pytest.mark.slow
def test_an_experiment_under_a_launcher(tmp_path):
    """The same command as on one device: the same accuracies to what summation leaves, written and said once."""
    command = ["-m", "experiments", "digits", "--quick", "--out"]
    first, second = together([*command, str(tmp_path / "two")])
    subprocess.run([sys.executable, *command, str(tmp_path / "one")], check=True, capture_output=True)
    one, two = (np.load(tmp_path / name / "digits" / "arrays.npz") for name in ("one", "two"))
    np.testing.assert_allclose(two["costs"], one["costs"], rtol=1e-3)
    result = json.loads((tmp_path / "two" / "digits" / "result.json").read_text())
    assert result["devices"] == 4
    assert "2 of 4 devices share a mini-batch of 10" in first[1]
    assert "test accuracy" in first[0]
    assert "digits" not in second[0]


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of a launcher, and tells how often JAX was asked to find its processes."""
    asked = []
    for name in [name for name in os.environ if name.startswith(("JAX_CO", "SLURM", "OMPI", "PMI", "TPU", "MEGA"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: asked.append(arguments))

    def launched(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return asked

    return launched


ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
"""What sbatch and salloc set for a script of several tasks; `srun` sets more."""


@pytest.mark.parametrize(
    ("asks", "variables"),
    [
        (False, {}),
        (False, ALLOCATION | {"SLURM_JOB_NODELIST": "n1", "SLURM_NPROCS": "4", "SLURM_JOB_NUM_NODES": "1"}),
        (False, ALLOCATION | {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1"}),  # salloc's interactive step
        (False, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_UNIVERSE_SIZE": "4"}),
        (False, {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "1"}),
        (False, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}),  # of many independent jobs
        (True, ALLOCATION | {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "4"}),
        (True, {"OMPI_COMM_WORLD_SIZE": "2"}),
        (True, {"TPU_WORKER_HOSTNAMES": "a,b"}),
        (True, {"TPU_PROCESS_ADDRESSES": "a:1,b:1"}),
        (True, {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}),
    ],
)
def test_jax_finds_the_processes_of_a_launcher(launched, asks, variables):
    """It is not asked where there is one process."""
    asked = launched(**variables)
    assert not parallel.start()  # as JAX's function is replaced, there is one
    assert asked == [()] * asks


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_a_launcher_that_jax_does_not_know(launched, monkeypatch, name):
    """As Intel MPI and MPICH, and as Open MPI 5, which does not say where its first process is."""

    launched(**{name: "4"})
    monkeypatch.setattr(jax.distributed, "initialize", raises(ValueError("coordinator_address should be defined.")))
    with pytest.raises(ValueError, match=f"^JAX_COORDINATOR_ADDRESS, .* must be set in .*, got {name}=4 of a launcher"):
        parallel.start()


@pytest.mark.bad_input
def test_a_launcher_that_says_too_little(launched):
    launched(JAX_COORDINATOR_ADDRESS="127.0.0.1:1", JAX_NUM_PROCESSES="two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be an integer .*got 'two'"):
        parallel.start()


def test_the_devices_of_a_mesh_make_another():
    devices = on(4, model=2).devices
    assert parallel.mesh(devices=devices).devices.tolist() == devices.reshape(4, 1).tolist()


def test_arrays_of_other_libraries():
    xs = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(parallel.place(on(2), Tensor(xs), P("batch")), xs)
    np.testing.assert_array_equal(parallel.sweep(jnp.negative, Tensor(xs)), -xs)


# Sweeps


def trained(key, eta, xs, ys, epochs=2):
    optimizer = train.sgd(eta)
    state = train.init(optimizer, mlp.init(jax.random.fold_in(key, 0), (4, 5, 3)))
    return train.run(key, backprop.minibatch_value_and_grad, optimizer, state, (xs, ys), epochs=epochs, batch_size=4)


def swept(k, **options):
    xs, ys = examples(1, 10, (4, 5, 3))
    keys, etas = jax.random.split(jax.random.key(3), k), jnp.linspace(0.1, 1.0, k)
    return parallel.sweep(Partial(trained, xs=xs, ys=ys), keys, etas, **options), (keys, etas, xs, ys)


@pytest.mark.parametrize(("k", "devices"), [(1, 8), (5, 2), (9, 8)])
def test_a_sweep_is_every_member_alone(k, devices):
    """To the last bit, also where the devices do not divide the members or outnumber them."""
    (states, histories), (keys, etas, xs, ys) = swept(k, devices=jax.devices()[:devices])
    assert len(histories.losses) == k
    assert len(states.params[0].w.sharding.device_set) == min(k, devices)
    alone = jax.jit(trained)
    for i in range(k):
        state, history = alone(keys[i], etas[i], xs, ys)
        assert_same_bits(jax.tree.map(lambda leaf, i=i: leaf[i], (states, histories)), (state, history))


@pytest.mark.parametrize("n", [3, 2])
def test_a_sweep_traces_once(n):
    """Also where one of two devices has a member less."""
    traced, devices = [], jax.devices()[:n]

    def f(a, b):
        traced.append(1)
        return a * b

    for scale in (1.0, 2.0):
        found = parallel.sweep(f, jnp.arange(3.0), scale * jnp.ones(3), devices=devices)
        np.testing.assert_array_equal(found, scale * np.arange(3.0))
    assert len(traced) <= 2  # once for CPUs, once for other platforms, and not again for other values


def test_a_sweep_computes_each_member_once():
    """Also where a device has a member less."""
    computed = []

    def f(x):
        jax.debug.callback(lambda x: computed.append(int(x)), x)
        return x

    parallel.sweep(f, jnp.arange(3), devices=jax.devices()[:2])
    jax.effects_barrier()
    assert sorted(computed) == [0, 1, 2]


# Members of a training run


def error(params):
    return {"error": jnp.sin(100 * jnp.sum(params[0].w))}


def members(k, *, epochs=6, **options):
    keys = jax.random.split(jax.random.key(2), k)
    state = jax.vmap(lambda key: train.init(OPTIMIZER, mlp.init(key, SIZES)))(keys)
    options = {"progress": False, "evaluate": error, "stopping": stopping.error_change(window=2), **options}
    grad, data = backprop.minibatch_value_and_grad, options.pop("data", examples(2, 20, SIZES))
    return train.fit(keys, grad, OPTIMIZER, state, data, epochs=epochs, batch_size=8, **options)


def test_members_on_many_devices_are_those_on_one():
    """To the last bit, also where the devices do not divide the members, and of all that is kept."""
    many, history = members(9)
    with jax.default_device(jax.devices()[0]):
        one = members(9)
    assert_same_bits((many, history), one)
    assert many.params[0].w.sharding.num_devices == 8
    assert one[0].params[0].w.sharding.num_devices == 1
    stopped = np.sum(np.isfinite(history.losses[..., 0]), axis=1)
    assert len(set(stopped.tolist())) > 1  # some members stopped before others


def test_members_resume_on_other_devices(tmp_path):
    """What was saved on many devices goes on where it is alone, and with its history, to the same bits."""
    saved = checkpoint.Checkpoints(tmp_path)
    whole = members(3, stopping=None)
    members(3, stopping=None, epochs=2, checkpoints=saved)
    with jax.default_device(jax.devices()[0]):
        assert_same_bits(members(3, stopping=None, checkpoints=saved), whole)


def test_members_compile_once():
    """Although the state of the first epoch, and what tracks it, are elsewhere than what an epoch returns."""
    before = program.train._cache_size()
    members(4, stopping=stopping.error_change(window=3))
    assert program.train._cache_size() == before + 1


def test_members_stay_on_a_device_that_was_chosen():
    state, _ = members(2, epochs=1, stopping=None, data=jax.device_put(examples(2, 20, SIZES), jax.devices()[3]))
    assert state.params[0].w.devices() == {jax.devices()[3]}


def f_of_n(x, n):
    return x * jnp.ones(n)


XS, FIRST = np.ones((4, 2), np.float32), jax.devices()[:1]
ON_ONE = jax.sharding.SingleDeviceSharding(FIRST[0])
DEVICES = r"devices must be a list of distinct devices, .* got (3|cpu|\[)"
MESH = "mesh must have an axis 'batch', as parallel.mesh makes it, got"
DIVISIBLE = "batch_size must be divisible by the 4 devices of sharding, got 10: use 12, or a mesh"
SPEC = "spec must be a PartitionSpec or a tree of them that matches tree, got"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (TypeError, lambda: training(train.epoch, sharding=ON_ONE), "must be a NamedSharding, .*got SingleDevice"),
        (ValueError, lambda: training(train.epoch, batch_size=10, sharding=parallel.batches(on(4))), DIVISIBLE),
        (ValueError, lambda: parallel.mesh(model=3), "model must divide the number of devices, got 3 and 8 devices"),
        (TypeError, lambda: parallel.mesh(model=2.0), "model must be an integer, got 2.0"),
        (ValueError, lambda: parallel.mesh(devices=[]), "got 1 and 0 devices"),
        (TypeError, lambda: parallel.mesh(devices=3), DEVICES),
        (TypeError, lambda: parallel.mesh(devices=[None]), DEVICES),
        (TypeError, lambda: parallel.mesh(devices=2 * FIRST), DEVICES),
        (TypeError, lambda: parallel.sweep(jnp.sin, jnp.ones(2), devices=2 * FIRST), DEVICES),
        (TypeError, lambda: parallel.batches(None), MESH),
        (TypeError, lambda: parallel.batches(jax.make_mesh((1,), ("data",), devices=FIRST)), MESH),
        (TypeError, lambda: parallel.place(parallel.batches(on(2)), XS), "must be a Mesh, .* got NamedSharding"),
        (TypeError, lambda: parallel.place(on(2), {"a": np.array(["a"])}), r"tree\['a'\] must hold numbers, got text"),
        (ValueError, lambda: parallel.place(on(2), (XS, XS), "batch"), SPEC),
        (ValueError, lambda: parallel.place(on(2), (XS, XS), (P(), None)), SPEC),
        (ValueError, lambda: parallel.place(on(2), (XS, XS), ("batch", P())), SPEC),
        (ValueError, lambda: parallel.sweep(jnp.add), "the arrays in members must share a leading axis"),
        (ValueError, lambda: parallel.sweep(jnp.add, XS, XS[:3]), r"must be equal.*members\[0\]: \(4, 2\), members"),
        (ValueError, lambda: parallel.sweep(jnp.add, XS, 0.5), r"leading axis of N members, got .*members\[1\]: \(\)"),
        (ValueError, lambda: parallel.sweep(jnp.sin, XS, devices=()), "devices must have at least one device"),
        (TypeError, lambda: parallel.sweep(None, jnp.ones(2)), "^f must be a function, got None"),
        (TypeError, lambda: parallel.sweep(Partial(jnp.where, x=jnp.tanh), XS), "^x must be an array, got a PjitFunc"),
        (TypeError, lambda: parallel.sweep(Partial(f_of_n, n=3), XS), "^n=3 must be used as an array, .*functools.p"),
    ],
)
def test_bad_input(error, call, message):
    with pytest.raises(error, match=message):
        call()
