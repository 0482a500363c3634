"""Data in chunks: `train.fit` on any iterable of them."""

import functools
import logging
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import backprop, checkpoint, parallel, stopping, train
from jnn.train import loop, program
from tests.helpers import assert_same_bits, examples, network, raises

GRAD = backprop.minibatch_value_and_grad
ADAM = optax.adam(0.01)
SIZES = (6, 5, 3)
KEY = jax.random.key(0)
XS, YS = (np.array(a) for a in examples(1, 22, SIZES))
PARTS = (slice(0, 8), slice(8, 16), slice(16, 22))
CHUNKS = [(XS[part], YS[part]) for part in PARTS]


class Loader:
    """A data loader that reads every chunk into the same memory and can break off; `read` counts chunks."""

    def __init__(self, breaks=None):
        self.read, self.breaks = 0, breaks

    def __iter__(self):
        xs, ys = np.empty_like(XS[:8]), np.empty_like(YS[:8])
        for x, y in CHUNKS:
            if self.read == self.breaks:
                raise KeyboardInterrupt
            self.read += 1
            xs[: len(x)], ys[: len(y)] = x, y
            yield [xs[: len(x)], ys[: len(y)]]


def error(params):
    return {"error": jnp.sin(40 * params[0].w[0, 0])}


def start(seed=0):
    return train.init(ADAM, network(seed, SIZES))


def fit(data, *, epochs=3, key=KEY, state=None, **options):
    state = start() if state is None else state
    return train.fit(key, GRAD, ADAM, state, data, epochs=epochs, batch_size=4, progress=False, **options)


def torchs():
    """A torch data loader."""
    utils, torch = map(pytest.importorskip, ("torch.utils.data", "torch"))
    return utils.DataLoader(utils.TensorDataset(torch.tensor(XS), torch.tensor(YS)), batch_size=8)


FORMS = {
    "a list": lambda: CHUNKS,
    "a list of lists": lambda: list(map(list, CHUNKS)),
    "a generator function": lambda: lambda t: (chunk for chunk in CHUNKS),
    "a loader with one memory": Loader,
    "JAX arrays": lambda: [jax.tree.map(jnp.asarray, chunk) for chunk in CHUNKS],
    "torch": torchs,
}


@pytest.fixture(scope="module")
def by_hand():
    """One call of `train.epoch` after another."""
    state, losses, errors = start(), [], []
    for t in range(3):
        key = jax.random.fold_in(KEY, t)
        for c, chunk in enumerate(CHUNKS):
            state, values = train.epoch(jax.random.fold_in(key, c), GRAD, ADAM, state, chunk, batch_size=4)
            losses.append(values)
        errors.append(error(state.params)["error"])
    return state, (jnp.concatenate(losses).reshape(3, -1), jnp.stack(errors))


@pytest.mark.parametrize("form", FORMS)
def test_chunks_are_epochs_one_after_another(form, by_hand):
    state, history = fit(FORMS[form](), evaluate=error)
    assert_same_bits((state, (history.losses, history.metrics["error"])), by_hand)


def test_members_and_early_stopping():
    """Each member trains as alone, and does nothing more once it has stopped."""
    keys = jax.random.split(KEY, 3)
    states = [start(seed) for seed in range(3)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    options = {"epochs": 6, "evaluate": error, "stopping": stopping.error_change(window=2)}
    together, history = fit(CHUNKS, key=keys, state=state, **options)
    assert len(set(np.asarray(history.epochs).tolist())) > 1
    for i, alone in enumerate(states):
        one, its = fit(CHUNKS, key=keys[i], state=alone, **options)
        assert_same_bits(jax.tree.map(lambda leaf, i=i: leaf[i], together.params), one.params)
        n = int(its.epochs)
        assert (int(history.epochs[i]), int(history.best[i])) == (n, int(its.best))
        assert_same_bits(history.losses[i, :n], its.losses[:n])
        assert np.isnan(history.losses[i, n:]).all()


def test_a_carry_goes_from_chunk_to_chunk():
    """The same bits as with all examples in memory, whose order is kept."""

    def grad(params, carry, xs, ys):
        value, grads = GRAD(params, xs + carry, ys)
        return (value, carry + jnp.mean(xs)), grads

    def trained(data):
        state = train.init(ADAM, network(0, SIZES), carry=jnp.zeros(()))
        return train.fit(KEY, grad, ADAM, state, data, epochs=2, batch_size=2, progress=False)

    assert_same_bits(trained(CHUNKS), trained((XS, YS)))


def test_devices_share_the_mini_batches_of_chunks():
    state, history = fit(CHUNKS, sharding=parallel.batches(parallel.mesh(devices=jax.devices()[:2])))
    alone, expected = fit(CHUNKS)
    assert np.allclose(history.losses, expected.losses, rtol=1e-5)
    assert jax.tree.all(jax.tree.map(functools.partial(np.allclose, atol=1e-6), state.params, alone.params))


def test_two_epochs_and_one_more_are_three():
    state, history = fit(CHUNKS, epochs=2, evaluate=error)
    on = fit(iter(CHUNKS), epochs=1, state=state, history=history, evaluate=error)  # one epoch needs no second pass
    assert_same_bits(on, fit(CHUNKS, evaluate=error))


@pytest.mark.parametrize("breaks", [4, 8])
def test_a_training_resumes_at_its_epoch(breaks, tmp_path, caplog):
    """Interrupted while it reads a chunk, with the same bits, and without training on a whole epoch again."""
    caplog.set_level(logging.WARNING, "jnn")
    options = {"evaluate": error, "catch_interrupt": False}
    with pytest.raises(KeyboardInterrupt):
        fit(Loader(breaks), checkpoints=checkpoint.Checkpoints(tmp_path), **options)
    read, done = [], breaks // 3

    def noticed(t):
        for chunk in CHUNKS:
            read.append(t)
            yield chunk

    result = fit(noticed, checkpoints=checkpoint.Checkpoints(tmp_path), **options)
    assert_same_bits(result, fit(CHUNKS, evaluate=error))
    assert [record.message for record in caplog.records] == [f"resuming after {tmp_path / str(done)}"]
    assert read == [0] + [t for t in range(done, 3) for _ in CHUNKS]  # the first shows that the data are the same


def test_ctrl_c_within_an_epoch_returns_the_last_whole_one(tmp_path, capsys):
    state, history = fit(Loader(breaks=5), checkpoints=checkpoint.Checkpoints(tmp_path))
    assert "after epoch 1 of 3" in capsys.readouterr().err
    assert_same_bits((state, history), fit(CHUNKS, epochs=1))
    assert (tmp_path / "1").is_dir()


def test_ctrl_c_in_a_resumed_training_returns_what_there_was(tmp_path, monkeypatch):
    """Before another epoch has ended."""
    checkpoints = checkpoint.Checkpoints(tmp_path)
    one = fit(CHUNKS, epochs=1, checkpoints=checkpoints)
    monkeypatch.setattr(loop, "_epoch", raises(KeyboardInterrupt()))
    assert_same_bits(fit(CHUNKS, checkpoints=checkpoints), one)


def test_the_next_chunk_is_read_while_one_trains(monkeypatch):
    """After the program is called, which returns before it has trained, and before its losses are waited for."""
    log, local, trained, measured = [], parallel.local, program.train, program.measure

    def chunks(t):
        for chunk in CHUNKS:
            log.append("read")
            yield chunk

    monkeypatch.setattr(program, "train", lambda *args: log.append("train") or trained(*args))
    monkeypatch.setattr(program, "measure", lambda *args: log.append("measure") or measured(*args))
    monkeypatch.setattr(parallel, "local", lambda tree: log.append("wait") or local(tree))
    fit(chunks, epochs=2, evaluate=error)
    chunk = ["train", "read", "wait"]
    assert log == 2 * ["read", *chunk, *chunk, "train", "wait", "measure", "wait"]


def test_an_epoch_ends_before_the_next_ones_data_fail(tmp_path):
    """No epoch is lost by it."""
    ended = []

    def chunks(t):
        if t == 1:
            raise OSError("no such folder")
        return CHUNKS

    with pytest.raises(OSError, match="no such folder"):
        fit(chunks, callbacks=[ended.append], checkpoints=checkpoint.Checkpoints(tmp_path))
    assert [report.epoch for report in ended] == [1]
    assert_same_bits(fit(CHUNKS, checkpoints=checkpoint.Checkpoints(tmp_path)), fit(CHUNKS))


def aligned(shape):
    """Memory that JAX takes on a CPU without a copy of its own."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size].view(np.float32).reshape(shape)


def test_a_chunk_stays_as_it_is_while_it_trains(monkeypatch):
    """Although the next one is read into the loader's memory before the losses are waited for."""
    xs, ys = aligned((8, *XS.shape[1:])), aligned((8, *YS.shape[1:]))
    trained, local, training, seen = program.train, parallel.local, [], []

    def chunks(t):
        for x, y in CHUNKS:
            xs[: len(x)], ys[: len(y)] = x, y
            yield xs[: len(x)], ys[: len(y)]

    def spied(*args):
        training.append(args[-1])
        return trained(*args)

    def waited(tree):
        if isinstance(tree, jax.Array):  # the losses
            seen.append(jax.tree.map(np.array, training[-1]))
        return local(tree)

    monkeypatch.setattr(program, "train", spied)
    monkeypatch.setattr(parallel, "local", waited)
    fit(chunks, epochs=2)
    assert_same_bits(seen, CHUNKS + CHUNKS)


def test_at_most_two_chunks_are_kept():
    made, most = [], []

    def chunks(t):
        for xs, ys in CHUNKS + CHUNKS:
            chunk = jnp.array(xs), jnp.array(ys)
            made.append(weakref.ref(chunk[0]))
            most.append(sum(one() is not None for one in made))
            yield chunk
            del chunk

    fit(chunks)
    assert max(most) == 2


def test_a_cost_that_is_not_finite_is_found_in_its_chunk():
    bad = (XS[8:16].copy(), YS[8:16])
    bad[0][3, 1] = np.nan
    with pytest.raises(
        FloatingPointError, match=r"epoch 1, mini-batch [34], in chunk 2: data\[0\] .* 1 of 8 .* first in row 3"
    ):
        fit([CHUNKS[0], bad, CHUNKS[2]])


def test_epochs_of_different_lengths(tmp_path, by_hand):
    """The losses of shorter ones end with NaN, with checkpoints and in a history that continues, too."""

    def longer(t):
        return CHUNKS[: t + 1]

    state, history = fit(longer)
    assert np.isnan(np.asarray(history.losses)).sum(axis=1).tolist() == [4, 2, 0]
    assert_same_bits(by_hand[1][0][:1, :2], history.losses[:1, :2])
    fit(longer, epochs=2, checkpoints=checkpoint.Checkpoints(tmp_path))
    assert_same_bits(fit(longer, checkpoints=checkpoint.Checkpoints(tmp_path)), (state, history))
    before = fit(longer, epochs=2)
    assert_same_bits(fit(longer, epochs=1, state=before[0], history=before[1]), (state, history))


BY_NAME = [{"x": xs, "y": ys} for xs, ys in CHUNKS]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("error", "data", "message", "place"),
    [
        (ValueError, lambda t: (), "data must hold at least one chunk, got none", None),
        (ValueError, lambda t: CHUNKS[3 * t :], "at least one chunk in epoch 2, got none", None),
        (ValueError, iter(CHUNKS), "an iterator gives its chunks once, got one for epochs=3", None),
        (ValueError, lambda t: [(XS[:0], YS[:0])], "at least one example", "in chunk 1 of epoch 1"),
        (ValueError, [(XS[:4], YS[:3])], "leading axes of data must be equal", "in chunk 1 of epoch 1"),
        (ValueError, [CHUNKS[0], (XS[:8, :5], YS[:8])], r"float32\[N, 5\].* in chunk 2 of epoch 1", None),
        (ValueError, [CHUNKS[0], (XS[:8] > 0, YS[:8])], r"bool\[N, 6\].* in chunk 2 of epoch 1", None),
        (TypeError, lambda t: t, "must return an iterable of chunks, got int", None),
        (TypeError, lambda t: [XS], "data must be a tuple", "in chunk 1 of epoch 1"),
        (TypeError, lambda t: [CHUNKS[0], None], "data must be a tuple", "in chunk 2 of epoch 1"),
        (TypeError, BY_NAME, r"order of .*, such as \(data\['x'\], data\['y'\]\)", "in chunk 1 of epoch 1"),
        (TypeError, lambda t: iter(BY_NAME), r"such as \(data\['x'\], data\['y'\]\)", "in chunk 1 of epoch 1"),
    ],
)
def test_bad_chunks(error, data, message, place):
    with pytest.raises(error, match=message) as raised:
        fit(data)
    assert getattr(raised.value, "__notes__", []) == ([place] if place else [])


@pytest.mark.bad_input
@pytest.mark.parametrize("trains", [train.epoch, functools.partial(train.run, epochs=1)], ids=["epoch", "run"])
def test_only_fit_takes_chunks(trains):
    with pytest.raises(TypeError, match=r"tuple of arrays.*only train.fit takes chunks"):
        trains(KEY, GRAD, ADAM, start(), Loader(), batch_size=4)


@pytest.mark.bad_input
def test_other_chunks_are_not_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(Loader(breaks=5), checkpoints=checkpoint.Checkpoints(tmp_path), catch_interrupt=False)
    kept = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match="checkpoint of other inputs"):
        fit(CHUNKS[::-1], checkpoints=checkpoint.Checkpoints(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
