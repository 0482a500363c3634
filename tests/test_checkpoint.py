import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import backprop, mlp, parallel, stopping, train
from jnn.checkpoint import Checkpoints, identity, load
from jnn.checkpoint.store import Store
from tests import killed
from tests.helpers import assert_same_bits, examples

SIZES = (4, 5, 3)
OPTIMIZER = optax.adam(0.01)
GRAD = backprop.minibatch_value_and_grad


def fit(checkpoints=None, *, config=None, key=0, members=(), sizes=SIZES, epochs=5, callbacks=(), **options):
    if config is not None:
        checkpoints = dataclasses.replace(checkpoints, config=config)
    grad, optimizer, data = (options.pop(name, None) for name in ("grad", "optimizer", "data"))
    keys = jax.random.split(jax.random.key(key), members) if members else jax.random.key(key)
    optimizer = optimizer or OPTIMIZER
    params = options.pop("params", None) or mlp.init(jax.random.key(1), sizes)
    state = options.pop("state", None) or train.init(optimizer, params)
    if members:
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*members, *leaf.shape)), state)
    data = data or examples(2, 12, sizes)
    options = {"batch_size": 5, "progress": False, "callbacks": callbacks, "catch_interrupt": False} | options
    return train.fit(keys, grad or GRAD, optimizer, state, data, epochs=epochs, checkpoints=checkpoints, **options)


def interrupt_in(epoch):
    def callback(report):
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return [callback]


def epochs_in(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def error_of(params):
    return jnp.mean(params[0].w ** 2)


@jax.custom_vjp
def square(x):
    return x**2


square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))


def vjp_error_of(params):
    return jnp.mean(square(params[0].w))


# Resuming


@pytest.mark.parametrize(
    ("epoch", "options"),
    [
        (1, {}),
        (4, {"evaluate": error_of}),
        (4, {"evaluate": error_of, "stopping": stopping.error_change(window=2), "members": (2,)}),
    ],
    ids=["plain", "metrics", "members that stop"],
)
def test_a_resumed_run_ends_with_the_same_bits(options, epoch, tmp_path):
    whole = fit(**options)
    try:
        fit(Checkpoints(tmp_path), callbacks=interrupt_in(epoch), **options)
    except KeyboardInterrupt:
        assert epochs_in(tmp_path)[-1:] == ([epoch - 1] if epoch > 1 else [])
    seen = []
    assert_same_bits(fit(Checkpoints(tmp_path), callbacks=[lambda report: seen.append(report.epoch)], **options), whole)
    assert seen[:1] in ([epoch], [])
    assert_same_bits(fit(Checkpoints(tmp_path), **options), whole)  # a finished one is not trained again
    assert_same_bits(load(tmp_path), whole)  # in the classes of jnn and of optax


def test_it_goes_on_on_other_devices(tmp_path):
    mesh = parallel.mesh(devices=jax.devices()[:2])
    fit(Checkpoints(tmp_path), epochs=2, batch_size=4, sharding=parallel.batches(mesh))
    fit(Checkpoints(tmp_path), epochs=3, batch_size=4)
    assert epochs_in(tmp_path) == [2, 3]


def test_what_a_callback_ended_stays_ended(tmp_path, caplog):
    ended = fit(Checkpoints(tmp_path), callbacks=[lambda report: report.epoch == 2])
    assert not caplog.messages
    assert_same_bits(fit(Checkpoints(tmp_path)), ended)
    assert caplog.messages == [
        f"{tmp_path / '2'} was the last epoch, by the stopping criterion or a callback: none of 5 is trained"
    ]


def test_what_is_resumed_is_said(tmp_path, caplog):
    """The folder holds more epochs than requested, the same number, and fewer."""
    three = fit(Checkpoints(tmp_path), epochs=3)
    assert_same_bits(fit(Checkpoints(tmp_path), epochs=2), three)
    assert_same_bits(fit(Checkpoints(tmp_path), epochs=3), three)
    fit(Checkpoints(tmp_path), epochs=4)
    three = tmp_path / "3"
    assert caplog.messages == [
        f"{three} holds 3 epochs, and epochs=2: all are returned, none is trained",
        f"{three} holds 3 epochs, and epochs=3: all are returned, none is trained",
        f"resuming after {three}",
    ]


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fit(Checkpoints("~/run"), epochs=1, callbacks=[lambda report: os.chdir("/")])
    assert epochs_in(tmp_path / "home" / "run") == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("resume", [True, False])
def test_folders_of_the_users_are_never_deleted(resume, tmp_path):
    fit(Checkpoints(tmp_path), epochs=1)
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "results.csv").write_text("precious")
    with pytest.raises(ValueError, match="only they may be named by numbers, got .*2024: choose another folder, such"):
        fit(Checkpoints(tmp_path, resume=resume), epochs=2)
    assert (tmp_path / "2024" / "results.csv").read_text() == "precious"
    assert epochs_in(tmp_path) == [1, 2024]


def test_starting_over_deletes_what_is_there(tmp_path):
    fit(Checkpoints(tmp_path), key=1)
    restarted = fit(Checkpoints(tmp_path, resume=False))
    assert_same_bits(restarted, fit())
    assert_same_bits(fit(Checkpoints(tmp_path)), restarted)


def measures(name=None, values=(0.5, 0.1, 0.4, 0.3, 0.2)):
    """Metrics that are the same in every run."""
    one, left = jax.ShapeDtypeStruct((), jnp.float32), iter(values)

    def evaluate(params):
        value = jax.pure_callback(lambda: np.float32(next(left)), one)
        return value if name is None else {name: value, "of more": jnp.ones(3)}

    return evaluate


RANKINGS = {
    "an error, by default": ("error", {}, [2, 4, 5]),
    "an accuracy, by default": ("accuracy", {}, [1, 4, 5]),
    "a loss": ("val_loss", {"lowest": "val_loss"}, [2, 4, 5]),
    "one number": (None, {"highest": "accuracy"}, [1, 4, 5]),
    "none": ("val_loss", {}, [4, 5]),
}


@pytest.mark.parametrize("case", RANKINGS)
def test_the_newest_and_the_best_are_kept(case, tmp_path):
    name, options, kept = RANKINGS[case]
    fit(Checkpoints(tmp_path, **options), evaluate=measures(name))
    assert epochs_in(tmp_path) == kept
    if case == "none":
        with pytest.raises(ValueError, match="one of 4, 5, got .best.; none has a metric that ranks: pass lowest or"):
            load(tmp_path, "best")
    else:
        assert load(tmp_path, "best")[1].losses.shape[0] == kept[0]


# Reading without the program


def test_load_takes_a_number_and_the_run_continues(tmp_path):
    fit(Checkpoints(tmp_path, keep=3), epochs=3)
    state, history = load(tmp_path, 2)
    assert_same_bits((state, history), fit(epochs=2))
    assert_same_bits(fit(state=state, history=history, epochs=3), fit(epochs=5))


class Pair(NamedTuple):
    """A container of a program, which another program does not know."""

    left: jax.Array
    right: dict


def test_load_of_other_containers_and_keys(tmp_path, monkeypatch):
    noisy = optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(3)), optax.sgd(0.1))

    def grad(params, xs, ys):
        return jnp.sum(params.left**2), jax.tree.map(jnp.ones_like, params)

    params = Pair(jnp.ones(2), {"b": [jnp.zeros(3)]})
    state, _ = fit(Checkpoints(tmp_path), optimizer=noisy, params=params, grad=grad, epochs=1)
    assert_same_bits(*(jax.tree.map(identity.plain, one) for one in (load(tmp_path)[0], state)))
    monkeypatch.delattr(sys.modules[__name__], "Pair")
    loaded = load(tmp_path)[0].params
    assert (type(loaded).__name__, loaded._fields) == ("Pair", ("left", "right"))
    np.testing.assert_array_equal(loaded.right["b"][0], state.params.right["b"][0])


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Node:
    """A container that only its program can make."""

    w: jax.Array


def test_load_refuses_what_only_its_program_restores(tmp_path):
    def grad(params, xs, ys):
        return jnp.sum(params.w**2), jax.tree.map(jnp.ones_like, params)

    fit(Checkpoints(tmp_path), params=Node(jnp.ones(2)), grad=grad, epochs=1)
    with pytest.raises(ValueError, match="1 holds containers that only the program that wrote it can restore: resume"):
        load(tmp_path)


@pytest.mark.bad_input
def test_load_of_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold checkpoints, got none"):
        load(tmp_path)
    fit(Checkpoints(tmp_path), epochs=1)
    with pytest.raises(ValueError, match='which must be "latest", "best" or one of 1, got 7$'):
        load(tmp_path, 7)


# Hyperparameters


def test_hyperparams_are_taken_over_where_a_run_resumes(tmp_path):
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.01)
    fit(Checkpoints(tmp_path), epochs=2, optimizer=optimizer)
    slower = fit(Checkpoints(tmp_path, hyperparams={"learning_rate": 0}), epochs=4, optimizer=optimizer)
    assert_same_bits(slower[0].params, fit(epochs=2, optimizer=optimizer)[0].params)
    with pytest.raises(ValueError, match="hyperparams must be what optax.inject_hyperparams puts .* got rate"):
        fit(Checkpoints(tmp_path, hyperparams={"rate": 0}), epochs=4, optimizer=optimizer)


# What ends a run


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit(3)], ids=repr)
def test_what_was_trained_is_saved_whatever_ends_it(error, tmp_path):
    """Here in the second chunk of the third epoch."""

    def chunks(t):
        yield XS[:6], YS[:6]
        if t == 2:
            raise error
        yield XS[6:], YS[6:]

    with pytest.raises(type(error)) as raised:
        fit(Checkpoints(tmp_path, seconds=1e6), data=chunks)
    assert raised.value.__notes__[-1] == f"epoch 2 is saved in {tmp_path}"
    assert load(tmp_path)[1].losses.shape[0] == 2


def test_sigterm_saves_and_ends_with_its_code(tmp_path):
    with pytest.raises(SystemExit) as raised:
        fit(Checkpoints(tmp_path, seconds=1e6), callbacks=[terminated_in(3)])
    assert raised.value.code == 143
    assert epochs_in(tmp_path) == [2]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("part", ["write", "close"])
def test_an_epoch_that_cannot_be_saved_is_not_said_to_be(part, tmp_path, monkeypatch):
    """SIGTERM still ends the process with its code, and the error has a note of why nothing is saved."""
    done = getattr(Store, part)

    def full(store, *args):
        done(store, *args)
        raise OSError("full")

    monkeypatch.setattr(Store, part, full)
    with pytest.raises(SystemExit) as raised:
        fit(Checkpoints(tmp_path, seconds=1e6), callbacks=[terminated_in(3)])
    assert raised.value.code == 143
    (said,) = raised.value.__notes__
    assert said.startswith(f"cannot write a checkpoint in {tmp_path} (full)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_a_checkpoint_is_begun(number, tmp_path, monkeypatch):
    """What ends a write in its middle leaves its threads behind, which disturb another write of the same epoch."""
    write, begun = Store.write, []

    def interrupted(store, epoch, *args):
        begun.append(epoch)
        if epoch == 2:
            signal.raise_signal(number)
        write(store, epoch, *args)

    monkeypatch.setattr(Store, "write", interrupted)
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        fit(Checkpoints(tmp_path))
    assert begun == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_of_a_user_stays_theirs(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        fit(Checkpoints(tmp_path), callbacks=[terminated_in(3)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]


def terminated_in(epoch):
    return lambda report: signal.raise_signal(signal.SIGTERM) if report.epoch == epoch else None


def test_the_end_of_a_run_is_saved(tmp_path):
    assert_same_bits(fit(Checkpoints(tmp_path, seconds=1e6)), load(tmp_path))
    fit(Checkpoints(tmp_path / "another", seconds=1e6, final=False))
    assert not (tmp_path / "another").exists()


def test_divergence_names_the_last_good_epoch(tmp_path):
    def grad(params, xs, ys):
        value, grads = backprop.minibatch_value_and_grad(params, xs, ys)
        return jnp.where(jnp.sum(params[0].b) > 1.5, jnp.nan, value), jax.tree.map(jnp.zeros_like, grads)

    up = optax.stateless(lambda updates, params: jax.tree.map(lambda u: u + 0.05, updates))
    params = jax.tree.map(jnp.zeros_like, mlp.init(jax.random.key(1), SIZES))
    with pytest.raises(FloatingPointError, match=r"epoch 3, mini-batch 2") as raised:
        fit(Checkpoints(tmp_path), grad=grad, optimizer=up, params=params)
    assert raised.value.__notes__ == [f"epoch 2 is saved in {tmp_path}"]
    assert epochs_in(tmp_path) == [1, 2]


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """Processes that are killed at random times, and resume, end with the bits of one that was not."""
    assert killed.kill(tmp_path, kills=3, seed=0) == []


# Checkpoints that cannot be resumed


XS, YS = examples(2, 12, SIZES)


PROGRAM = "another program: its gradient, optimizer, transform or evaluate differs:"


def test_a_checkpoint_of_another_training(tmp_path):
    """All of the same sizes; what is bound to the gradient is data, too, and what it captures is its program."""
    scales = [np.full(5, scale, np.float32) for scale in (1, 2)]

    def captures(scale, params, xs, ys):
        return backprop.minibatch_value_and_grad(params, xs, ys * jnp.max(scale))

    def grad(params, xs, ys, captured=scales[0]):
        return captures(captured, params, xs, ys)

    bound = [jax.tree_util.Partial(captures, scale) for scale in scales]
    stopped = [{"evaluate": error_of, "stopping": stopping.error_change(window=window)} for window in (1, 2)]
    cases = [
        ({}, {"key": 1}, r"another key: \[0, 0\] there and \[0, 1\] here"),
        (
            {},
            {"data": (XS.at[3, 1].add(1e-6), YS)},
            r"other inputs: data.0 is float32\[12, 4\] sha256:\w+ there and float32\[12, 4\] sha256:\w+ here:",
        ),
        ({}, {"params": mlp.init(jax.random.key(2), SIZES)}, "other initial arrays: 0.params.0.w is"),
        ({}, {"optimizer": optax.adam(0.02)}, PROGRAM),
        ({}, {"evaluate": error_of}, PROGRAM),
        ({}, {"batch_size": 4}, "other settings: batch_size is 5 there and 4 here"),
        ({}, {"config": {"eta": None}}, "other config: eta is missing there and None here"),
        ({"config": {"eta": 0.1}}, {"config": {"eta": 0.2}}, "other config: eta is 0.1 there and 0.2 here"),
        ({"grad": bound[0]}, {"grad": bound[1]}, "other inputs: plan.grad.* is"),
        ({"grad": grad}, {"grad": functools.partial(grad, captured=scales[1])}, PROGRAM),
        (
            stopped[0],
            stopped[1],
            r"other settings: stopping is stopping.error_.*\(window=1, .* there and .*\(window=2",
        ),
    ]
    for i, (first, then, message) in enumerate(cases):
        folder = tmp_path / (str(i) if first else "plain")
        if not folder.exists():
            fit(Checkpoints(folder), epochs=2, **first)
        before = sorted(folder.rglob("*"))
        with pytest.raises(ValueError, match=f"2 is a checkpoint of .*{message}.*resume=False to start over"):
            fit(Checkpoints(folder), epochs=2, **then)
        assert sorted(folder.rglob("*")) == before


def test_other_versions(tmp_path, monkeypatch, caplog):
    """Their programs differ, so that they are not compared, which is reported."""
    fit(Checkpoints(tmp_path), epochs=2)
    about = tmp_path / "2" / "about" / "metadata"
    described = about.read_text()
    about.write_text(json.dumps({name: value for name, value in json.loads(described).items() if name != "program"}))
    with pytest.raises(ValueError, match="of a training run that an older jnn described in another way: resume with"):
        fit(Checkpoints(tmp_path), epochs=2)
    about.write_text(described)
    here = identity.versions()
    monkeypatch.setattr(identity, "versions", lambda: here | {"jax": "99"})
    there = f"jax is {here['jax']} there and 99 here"
    about.write_text(json.dumps(json.loads(described) | {"program": "of another version"}))
    assert_same_bits(fit(Checkpoints(tmp_path), epochs=3), fit(epochs=3))
    reported = "the programs are not compared, and the last bits may differ"
    assert f"{tmp_path / '2'} was saved with other versions: {there}: {reported}" in caplog.messages
    with pytest.raises(ValueError, match="other settings: batch_size"):
        fit(Checkpoints(tmp_path), epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The folder and what another process prints, which resumes, loses its folder, and has a full disk."""
    folder = tmp_path_factory.mktemp("elsewhere")
    fit(Checkpoints(folder / "resumed"), epochs=1, evaluate=vjp_error_of)
    fit(Checkpoints(folder / "full"), epochs=2)
    command = [sys.executable, "-m", "tests.killed", "troubled", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def test_the_program_reads_the_same_in_another_process(elsewhere):
    """And after other work in that process: a text with addresses of objects would not."""
    folder, said = elsewhere
    assert epochs_in(folder / "resumed") == [1, 2]
    assert len(said) == 2  # of the other two


def test_a_folder_that_becomes_a_file(elsewhere):
    """The error comes, and the process ends with it: no thread waits for the folder."""
    folder, (said, _) = elsewhere
    assert said.startswith("cannot write a checkpoint in")
    assert (folder / "run").read_text() == "not a folder"


def test_a_full_disk_leaves_the_older_checkpoints(elsewhere):
    """Files of this process may not grow beyond some bytes: what a full disk looks like to it."""
    folder, (_, said) = elsewhere
    assert said.startswith("cannot write a checkpoint in")
    assert_same_bits(fit(Checkpoints(folder / "full"), epochs=4), fit(epochs=4))


# One folder, several training runs


def test_a_folder_is_for_one_training_at_a_time(tmp_path):
    """Of two threads or processes the second says who holds it; the first goes on as if alone."""
    others = []

    def another(report):
        with pytest.raises(BlockingIOError) as error:
            fit(Checkpoints(tmp_path))
        others.append(str(error.value))

    whole = fit()
    assert_same_bits(fit(Checkpoints(tmp_path), callbacks=[another]), whole)
    held = "must be used by one training run at a time, got another one there already: wait"
    assert all(held in said for said in others)
    assert len(others) == 5
    assert_same_bits(fit(Checkpoints(tmp_path)), whole)


def test_the_lock_of_a_killed_process_does_not_block(tmp_path):
    hold = "import filelock, sys; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); input()"
    command, pipe = [sys.executable, "-c", hold, str(tmp_path / ".lock")], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match="got another one there already"):
            fit(Checkpoints(tmp_path), epochs=1)
        process.kill()
    assert (tmp_path / ".lock").exists()
    fit(Checkpoints(tmp_path), epochs=1)
    assert epochs_in(tmp_path) == [1]


def test_threads_with_folders_of_their_own(tmp_path):
    results = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: fit(Checkpoints(tmp_path / str(i)))})) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = fit()
    for i in range(3):
        assert_same_bits(results[i], whole)
        assert epochs_in(tmp_path / str(i)) == [4, 5]


def test_a_training_without_a_checkpoint_leaves_no_folder(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(Checkpoints(tmp_path / "a" / "b", seconds=1e6), callbacks=[lambda report: 1 / 0])
    assert list(tmp_path.iterdir()) == []


# Checkpoints that are damaged or cannot be written


def truncate(folder):
    for path in (folder / "tree").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def describe_other_arrays(folder):
    about = folder / "about" / "metadata"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"sha256": "of other arrays"}))


def remove_the_description(folder):
    (folder / "about" / "metadata").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, ""),
        (describe_other_arrays, "its arrays differ from those that were saved"),
        (remove_the_description, ""),
    ],
)
def test_a_damaged_checkpoint_says_so_and_the_older_one_is_intact(damage, said, tmp_path):
    fit(Checkpoints(tmp_path), epochs=4)
    damage(tmp_path / "4")
    with pytest.raises(ValueError, match=f"4 is damaged .*{said}.*; delete .*4 to resume from epoch 3"):
        fit(Checkpoints(tmp_path), epochs=5)
    shutil.rmtree(tmp_path / "4")
    assert_same_bits(fit(Checkpoints(tmp_path), epochs=5), fit(epochs=5))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot write a checkpoint in .*file"):
        fit(Checkpoints(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.bad_input
def test_a_metric_that_is_missing_is_refused_before_training(tmp_path):
    with pytest.raises(
        ValueError, match=r"must name a metric that evaluate returns, got 'acc', and metrics \['of more', 'score'"
    ):
        fit(Checkpoints(tmp_path, highest="acc"), evaluate=measures("score"), callbacks=[lambda report: 1 / 0])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, ValueError, "keep must be at least 1, got 0"),
        ({"lowest": "a", "highest": "b"}, ValueError, "one metric must rank, got lowest='a' and highest='b'"),
        ({"seconds": -1.0}, ValueError, "seconds must be at least 0, got -1.0"),
        ({"folder": 3}, TypeError, "folder must be a path, got 3"),
        ({"folder": "~nobody-has-this/a"}, ValueError, "folder must start with a home folder that exists, got ~nobody"),
    ],
)
def test_checkpoints_that_cannot_be(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        Checkpoints(**{"folder": tmp_path} | options)
