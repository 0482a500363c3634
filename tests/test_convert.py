"""Parameters to and from torch, safetensors files and the networks of Nielsen's book."""

import itertools
import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import cell, convert, costs, gru, language, lstm, mlp, rnn, stopping, train
from jnn._internal import structure
from jnn.typing import CarryState
from tests.helpers import cell_case, network, normal, refuses, relative_error
from tests.test_checkpoint import SIZES, assert_same_bits

RECURRENT = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
each_kind = pytest.mark.parametrize("kind", RECURRENT)


@each_kind
def test_to_torch_and_back(kind):
    params, _, _ = cell_case(RECURRENT[kind], 14)
    arrays = convert.to_torch(params) | convert.to_torch(jax.tree.map(jnp.negative, params), layer=1)
    k = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    shapes = {"weight_ih": (5 * k, 3), "weight_hh": (5 * k, 5), "bias_ih": (5 * k,), "bias_hh": (5 * k,)}
    assert {name: a.shape for name, a in arrays.items()} == {
        f"{name}_l{layer}": shape for layer in (0, 1) for name, shape in shapes.items()
    }
    assert relative_error(convert.from_torch(arrays), params) == 0
    assert relative_error(convert.from_torch(arrays, layer=1), jax.tree.map(jnp.negative, params)) == 0


def test_to_torch_keeps_the_order_of_its_gates():
    lstm_params, gru_params = cell_case(lstm, 14)[0], cell_case(gru, 14)[0]
    np.testing.assert_array_equal(convert.to_torch(lstm_params)["weight_ih_l0"][5:10], lstm_params.rem.W)
    np.testing.assert_array_equal(convert.to_torch(gru_params)["weight_ih_l0"][5:10], gru_params.update.W)


@each_kind
def test_from_torch_without_biases_and_in_both_directions(kind):
    params, _, _ = cell_case(RECURRENT[kind], 14)
    backwards = jax.tree.map(lambda leaf: leaf + 1, params)
    arrays = {name: np.asarray(a) for name, a in convert.to_torch(params).items()}
    both = arrays | {f"{name}_reverse": np.asarray(a) for name, a in convert.to_torch(backwards).items()}
    assert relative_error(convert.from_torch(both), params) == 0
    assert relative_error(convert.from_torch(both, reverse=True), backwards) == 0
    without = {name: a for name, a in arrays.items() if "weight" in name}
    unbiased = jax.tree.map(lambda leaf: leaf if leaf.ndim == 2 else jnp.zeros_like(leaf), params)
    assert relative_error(convert.from_torch(without), unbiased) == 0


@each_kind
def test_unroll_equals_torch(x64, kind):
    """States and gradients; both of torch's biases are drawn."""
    torch = pytest.importorskip("torch")
    _, state, xs = cell_case(RECURRENT[kind], 16, T=20, B=6, dtype=jnp.float64)
    weights = normal(16, 20, 6, 5, dtype=jnp.float64)
    net = getattr(torch.nn, kind)(3, 5).double()
    theirs = {name: a.numpy() for name, a in net.state_dict().items()}
    x = torch.tensor(np.asarray(xs), requires_grad=True)
    memories = [state.wm, state.ltm] if kind == "LSTM" else [state]
    start = [torch.tensor(np.asarray(memory)[None], requires_grad=True) for memory in memories]
    output, _ = net(x, tuple(start) if kind == "LSTM" else start[0])
    (output * torch.tensor(np.asarray(weights))).sum().backward()

    def ours(arrays, state, xs):
        states = RECURRENT[kind].unroll(convert.from_torch(arrays), state, xs)[1]
        states = states.wm if kind == "LSTM" else states
        return jnp.sum(states * weights), states

    grads, states = jax.jit(jax.grad(ours, argnums=(0, 1, 2), has_aux=True))(theirs, state, xs)
    dstart = [grads[1].wm, grads[1].ltm] if kind == "LSTM" else [grads[1]]
    assert relative_error(states, output.detach().numpy()) < 1e-14
    assert relative_error(grads[0], {name: p.grad.numpy() for name, p in net.named_parameters()}) < 1e-13
    assert relative_error([grads[2], *dstart], [x.grad.numpy(), *(h.grad[0].numpy() for h in start)]) < 1e-13


NATIVE = (
    *(np.bool_, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64),
    *(np.float16, np.float32, np.float64, np.complex64, jnp.bfloat16),
)


def test_what_is_written_is_loaded(tmp_path):
    """The same bits, dtypes and shapes, whatever the layout in memory; JAX arrays where JAX has the dtype."""
    values = np.random.default_rng(0).normal(size=(2, 3)) * 3
    tree = {
        "dtypes": [values.astype(dtype) for dtype in NATIVE],
        "shapes": [np.float32(0.1), np.zeros((0, 3), np.int8), values[1, 1], np.asarray(0.1)],
        "layouts": [np.asfortranarray(values), values.T, values[:, ::-2], np.broadcast_to(values[0], (4, 3))],
        "numbers": [0.1, 3, -(2**63), True],
        "jax": [jnp.asarray(2.5), jnp.ones((2, 1), jnp.bfloat16)],
    }
    convert.export(tmp_path / "net", tree)
    loaded = convert.load(tmp_path / "net", tree)
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for there, back in zip(jax.tree.leaves(tree), jax.tree.leaves(loaded), strict=True):
        a, b = np.asarray(there), np.asarray(back)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert [type(number) for number in loaded["numbers"]] == [float, int, int, bool]
    assert isinstance(loaded["shapes"][0], jax.Array)
    convert.export(tmp_path / "net", jnp.ones(2))
    np.testing.assert_array_equal(convert.load(tmp_path / "net", jax.ShapeDtypeStruct((2,), jnp.float32)), [1, 1])


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"a": np.arange(3, dtype=">f4")}, TypeError, r"params\['a'\] must be of dtype bool, .* native .*, got >f4"),
        ({"a": np.ones(3, jnp.float8_e5m2)}, TypeError, "got float8_e5m2"),
        ({"a": np.array(["text"])}, TypeError, "got <U4"),
        ({"a": 2**63}, TypeError, "got uint64"),
        ({"a": 1j}, TypeError, "must be an array or a number, got complex"),
        ({"a": "text"}, TypeError, r"params\['a'\] must be an array or a number, got str"),
        ({"a": np.ma.array([1.0, 2.0], mask=[0, 1])}, TypeError, "got MaskedArray"),
        ({"a": jax.random.key(0)}, TypeError, "must be an array or a number, got PRNGKeyArray"),
        ({"a.b": np.ones(2), "a": {"b": np.ones(2)}}, ValueError, "the names of arrays must differ.* got 'a.b'"),
        ({"__metadata__": np.ones(2)}, ValueError, "and not be __metadata__, got '__metadata__'"),
    ],
)
def test_what_a_file_cannot_hold_is_not_written(tree, error, message, tmp_path):
    with pytest.raises(error, match=message):
        convert.export(tmp_path / "net", tree)
    assert list(tmp_path.iterdir()) == []


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    convert.export("~/net", {"a": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert list(convert.load("~/net", {"a": np.ones(2)})) == ["a"]
    with pytest.raises(ValueError, match="path must start with a home folder that exists, got ~nobody-has-this/net"):
        convert.export("~nobody-has-this/net", {})
    with pytest.raises(ValueError, match="path must start with a home folder that exists, got ~nobody-has-this/net"):
        convert.load("~nobody-has-this/net", {})


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    params = mlp.init(jax.random.key(0), SIZES)
    convert.export(tmp_path / "net", params)
    arrays = load_file(tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert sorted(arrays) == ["0.b", "0.w", "1.b", "1.w"]
    np.testing.assert_array_equal(arrays["1.w"], params[1].w)


TREES = {
    "mlp": mlp.init(jax.random.key(0), SIZES),
    "lstm": lstm.init(jax.random.key(0), 2, 3),
    "rnn": {"cell": rnn.init(jax.random.key(0), 2, 3), "readout": [jnp.ones((1, 3)), None, ()]},
    "gru": gru.init(jax.random.key(0), 2, 3),
    "criterion": stopping.Errors(jnp.ones(()), jnp.ones((), int), jnp.ones((), int)),
    "language": language.init(jax.random.key(0), 4, 2, 3, layers=2),
    "training": train.init(train.sgd(0.1), mlp.init(jax.random.key(0), SIZES))._replace(opt_state=(0.5, 3, True)),
    "states": train.init(train.sgd(0.1), jnp.ones(2), carry=lstm.zero_state(3, 2))._replace(opt_state=()),
    "optax": train.init(optax.adam(0.1), mlp.init(jax.random.key(0), SIZES)),
    "eleven": tuple(jnp.full(1, i) for i in range(11)),
    "leaf": jnp.arange(3.0),
}


@pytest.mark.parametrize("name", TREES)
def test_a_file_knows_its_tree(name, tmp_path):
    mean = np.float64(0.1307)
    convert.export(tmp_path / "net", TREES[name], {"sizes": np.array(SIZES), "normalised": {"mean": mean}})
    loaded = convert.load(tmp_path / "net")
    assert_same_bits(loaded, TREES[name])
    assert list(map(type, jax.tree.leaves(loaded))) == list(map(type, jax.tree.leaves(TREES[name])))
    assert convert.metadata(tmp_path / "net") == {"sizes": list(SIZES), "normalised": {"mean": 0.1307}}


def test_a_tree_of_another_kind_needs_one_like_it(tmp_path):
    state = jax.tree_util.Partial(jnp.add, jnp.ones(2))
    convert.export(tmp_path / "net", state)
    assert convert.metadata(tmp_path / "net") == {}
    with pytest.raises(ValueError, match="does not hold the structure of its tree: pass `like`"):
        convert.load(tmp_path / "net")
    assert_same_bits(convert.load(tmp_path / "net", state), state)


def test_files_without_structure_load(tmp_path):
    from safetensors.numpy import save_file

    params = mlp.init(jax.random.key(0), SIZES)
    named = {
        f"{i}.{name}": np.asarray(value) for i, layer in enumerate(params) for name, value in layer._asdict().items()
    }
    save_file(named, tmp_path / "net")
    assert_same_bits(convert.load(tmp_path / "net", params), params)
    assert convert.metadata(tmp_path / "net") == {}
    with pytest.raises(ValueError, match="pass `like`"):
        convert.load(tmp_path / "net")
    save_file(named, tmp_path / "net", {"structure": '{"a kind of tomorrow": []}', "names": "[]"})
    with pytest.raises(ValueError, match="damaged: the structure of its tree is not known, got .*tomorrow"):
        convert.load(tmp_path / "net")


def test_files_written_before_name_other_modules():
    """The structure in files of version 0.2: the names of the modules from which the classes were imported."""
    before = {"train.CarryState": [{"lstm.Gate": ["array", "array", "array"]}, None, "number"]}
    state = CarryState(cell.Gate("array", "array", "array"), None, "number")
    assert structure.decode(before) == state
    assert structure.decode({"train.State": [{"tuple": [{"mlp.Layer": ["array"] * 2}]}, None]}).params[0].w == "array"


class Params(NamedTuple):
    w: jax.Array


def test_nothing_is_imported_for_a_file():
    """A NamedTuple of a module that is not imported is one of the same name and fields."""
    encoded = structure.encode(Params(jnp.ones(1)))
    assert structure.decode(encoded) == Params("array")
    for module in ("antigravity", "os", "other.lstm"):  # not imported, without such a class, named as one of jnn's
        encoded["NamedTuple"][0] = module
        assert structure.decode(encoded)._asdict() == {"w": "array"}
    assert "antigravity" not in sys.modules


def test_classes_that_are_not_public_are_refused():
    for kind in ("os.stat_result", "train.Plan", "mlp.init", "nothing.Params", "lstm"):
        with pytest.raises(ValueError, match="the structure of its tree is not known"):
            structure.decode({kind: []})


@pytest.mark.bad_input
def test_metadata_that_json_does_not_hold(tmp_path):
    with pytest.raises(TypeError, match="metadata must be a dict of what JSON holds: .* got PjitFunction"):
        convert.export(tmp_path / "net", jnp.ones(2), {"f": jnp.tanh})
    assert list(tmp_path.iterdir()) == []


# The networks of the book


@pytest.mark.parametrize("cost", [costs.quadratic, costs.cross_entropy], ids=repr)
def test_networks_of_the_book(cost, tmp_path, x64):
    draws = np.random.default_rng(0)
    written = {
        "sizes": list(SIZES),
        "weights": [draws.normal(size=(n_out, n_in)).tolist() for n_in, n_out in itertools.pairwise(SIZES)],
        "biases": [draws.normal(size=(n_out, 1)).tolist() for n_out in SIZES[1:]],
        "cost": {"quadratic": "QuadraticCost", "cross_entropy": "CrossEntropyCost"}[cost.name],
    }
    (tmp_path / "network.json").write_text(json.dumps(written))
    params, found = convert.load_network2(tmp_path / "network.json", dtype=jnp.float64)
    assert found is cost
    x = draws.normal(size=SIZES[0])
    a = x[:, None]
    for w, b in zip(written["weights"], written["biases"], strict=True):
        a = 1 / (1 + np.exp(-(np.array(w) @ a + b)))
    np.testing.assert_allclose(mlp.forward(params, jnp.asarray(x)), a[:, 0], rtol=1e-14)
    convert.export_network2(tmp_path / "ours.json", params, cost)
    assert json.loads((tmp_path / "ours.json").read_text()) == written


@pytest.mark.bad_input
def test_what_is_not_a_network_of_the_book(tmp_path):
    params = mlp.init(jax.random.key(0), SIZES)
    path = tmp_path / "network.json"
    with pytest.raises(ValueError, match=r"cost must be costs.quadratic or costs.cross_entropy.* got .*log_likelihood"):
        convert.export_network2(path, params, costs.log_likelihood)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        convert.load_network2(path)
    convert.export_network2(path, params, costs.quadratic)
    right = json.loads(path.read_text())
    wrong = {
        "KeyError 'cost'": {name: value for name, value in right.items() if name != "cost"},
        "KeyError 'Hinge'": right | {"cost": "Hinge"},
        "sizes are": right | {"sizes": [1, 2, 3]},
        "params.0..w must have shape": right | {"weights": right["weights"][::-1]},
        "TypeError": [right],
        "rows of numbers, got .U": right | {"weights": [[["1.5"] * 4] * 6, right["weights"][1]]},
        "rows of numbers, got bool": right | {"weights": [[[True] * 4] * 6, right["weights"][1]]},
        "rows of numbers, got object": right | {"biases": [[[None]] * 6, right["biases"][1]]},
        "cannot reshape": right | {"biases": [[[1.0, 2.0]] * 6, right["biases"][1]]},
    }
    for said, content in wrong.items():
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"must be a file that network2.save wrote, .*{said}"):
            convert.load_network2(path)
    convert.export_network2(path, params, costs.quadratic)
    with pytest.raises(TypeError, match="dtype must be floating, got int32"):
        convert.load_network2(path, dtype=jnp.int32)
    path.write_text("{")
    with pytest.raises(ValueError, match="must be a file that network2.save wrote"):
        convert.load_network2(path)


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "net"
    params = mlp.init(jax.random.key(0), SIZES)
    convert.export(path, params)
    with pytest.raises(ValueError, match=r"other arrays: 0.b is float32\[5\] there and float32\[6\] here"):
        convert.load(path, mlp.init(jax.random.key(0), (4, 6, 3)))
    with pytest.raises(ValueError, match=r"other arrays: 1.b is .* there and missing here"):
        convert.load(path, params[:1])
    with pytest.raises(FileNotFoundError, match="nothing, which does not exist"):
        convert.load(tmp_path / "nothing", params)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(ValueError, match="net is damaged or not a safetensors file"):
        convert.load(path, params)
    path.write_bytes(whole)
    with pytest.raises(OSError, match="cannot write .*net"):
        convert.export(tmp_path / "no folder" / "net", params)
    with pytest.raises(OSError, match="cannot write"):
        convert.export(tmp_path, params)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    with pytest.raises(TypeError, match="like.a must be an array or a number, got str"):
        convert.load(path, {"a": "text"})


LSTM, NETWORK = cell_case(lstm, 0)[0], network(0, SIZES)
W, B = "weight_ih_l0", "bias_hh_l0"


X = np.ones((20, 3))
PARAMS, NETWORK = cell_case(lstm, 0)[0], network(0, SIZES)
ARRAYS = {name: np.asarray(a) for name, a in convert.to_torch(PARAMS).items()}
(NAME, *_), MANY = ARRAYS, jax.tree.map(lambda a: jnp.stack([a, a]), PARAMS)


def torch_with(layer=0, **other):
    return lambda: convert.from_torch(ARRAYS | other, layer=layer)


def to_torch_with(**other):
    return lambda: convert.to_torch(PARAMS._replace(**other))


def book_with(*params):
    return lambda: convert.export_network2("no/net", params, costs.quadratic)


test_bad_input = refuses(
    (lambda: convert.from_torch({NAME: X}), ValueError, ".* must be in the state_dict of an LSTM, a GRU or an RNN"),
    (torch_with(weight_hr_l0=np.ones((2, 5))), ValueError, ".*no projections, got weight_hr_l0"),
    (torch_with(weight_hh_l0=np.ones((20, 10))), ValueError, r".*\[k d, d\], k = 4 for an LSTM, .* \(20, 10\)"),
    (torch_with(bias_ih_l0=jnp.ones(5)), ValueError, r"bias_ih_l0 must have shape \(20,\), got \(5,\)"),
    (lambda: convert.from_torch(dict.fromkeys(ARRAYS, X[:0, :0])), ValueError, r".*\[k d, d\], k = .* \(0, 0\)"),
    (lambda: convert.from_torch(PARAMS), TypeError, "arrays must be .* got a Params"),
    (lambda: convert.from_torch(None), TypeError, "arrays must be .* got a NoneType"),
    (torch_with(weight_ih_l0=X.astype(int)), TypeError, "weight_ih_l0 must have a floating dtype, got int"),
    (torch_with(weight_ih_l0=X.astype(str)), TypeError, "weight_ih_l0 must hold numbers, got text"),
    (torch_with(weight_ih_l0=None), TypeError, "weight_ih_l0 must be an array, got a NoneType"),
    (torch_with(True), TypeError, "layer must be an integer, got True"),
    (torch_with(1.0), TypeError, "layer must be an integer, got 1.0"),
    (to_torch_with(save=PARAMS.save._replace(W=X[:4])), ValueError, r"params.save.W must .* got \(4, 3\): each"),
    (lambda: convert.to_torch(MANY), ValueError, r"params.rem.W must be a matrix, got shape \(2, 5, 3\)"),
    (to_torch_with(ltm=None), TypeError, "params.ltm must be an array, got a NoneType"),
    (lambda: convert.to_torch(NETWORK), TypeError, "params .* got tuple: .*mlp's w and b .* torch.nn.Linear"),
    (lambda: convert.to_torch(language.Params(X, (), ())), TypeError, ".* got language.Params"),
    (book_with({"w": 1}), TypeError, r"params must be a tuple of mlp.Layer\(w, b\), got \['dict'\]"),
    (lambda: convert.export_network2("no", X, costs.quadratic), TypeError, "params must be a tuple .* a ndarray"),
    (book_with(mlp.Layer(X, 1j * X[:, 0])), TypeError, r"params\[0\].b must hold real numbers, got complex"),
    (book_with(mlp.Layer(X, [0.0] * 20)), TypeError, r"params\[0\].b must be an array, got a list"),
    start="^",
)


def test_rows_in_lists_are_arrays():
    params = cell_case(lstm, 0)[0]
    lists = {name: a.tolist() for name, a in convert.to_torch(params).items()}
    assert relative_error(convert.from_torch(lists), params) == 0
    assert convert.from_torch({name: a for name, a in lists.items() if "weight" in name}).rem.b.shape == (5,)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "call", [lambda path: convert.export(path, ()), convert.load, convert.metadata, convert.load_network2]
)
def test_parameters_in_place_of_a_path(call):
    """What they hold is not printed."""
    with pytest.raises(TypeError, match=r"^path must be a path, got \(Layer") as refused:
        call(network(0, (30, 40, 10)))
    assert len(str(refused.value)) < 200


@pytest.mark.bad_input
def test_two_names_in_one(tmp_path):
    convert.export(tmp_path / "net", {"a": {"b": np.ones(2)}})
    with pytest.raises(ValueError, match=r"names of arrays in like must differ, got a.b, a.b"):
        convert.load(tmp_path / "net", {"a.b": np.ones(2), "a": {"b": np.ones(2)}})
