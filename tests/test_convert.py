"""Parameters to and from torch, flax and safetensors files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import convert, lstm, mlp
from tests.helpers import relative_error
from tests.test_checkpoint import SIZES, assert_same_bits
from tests.test_lstm import case


def test_torch_layout_there_and_back():
    (params, _, _), _ = case(14)
    arrays = convert.to_torch(params)
    assert {name: a.shape for name, a in arrays.items()} == {
        "weight_ih_l0": (20, 3),
        "weight_hh_l0": (20, 5),
        "bias_ih_l0": (20,),
        "bias_hh_l0": (20,),
    }
    assert relative_error(convert.from_torch(arrays), params) == 0
    np.testing.assert_array_equal(arrays["weight_ih_l0"][5:10], params.rem.W)
    second = {name.replace("l0", "l1"): a for name, a in arrays.items()}
    assert relative_error(convert.from_torch(second, layer=1), params) == 0


def test_flax_layout_there_and_back():
    (params, _, _), _ = case(15)
    assert relative_error(convert.from_flax(convert.to_flax(params)), params) == 0


def test_against_torch():
    torch = pytest.importorskip("torch")
    (params, state, xs), weights = case(16, T=20, B=6)
    net = torch.nn.LSTM(3, 5)
    net.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in convert.to_torch(params).items()})
    x = torch.tensor(np.asarray(xs), requires_grad=True)
    start = [torch.tensor(np.asarray(memory)[None], requires_grad=True) for memory in (state.wm, state.ltm)]
    output, (_, _) = net(x, tuple(start))
    loss = (output * torch.tensor(np.asarray(weights[0][1]))).sum()
    loss.backward()

    def ours(params, state, xs):
        return jnp.sum(lstm.unroll(params, state, xs)[1].wm * weights[0][1])

    value, (dparams, dstate, dxs) = jax.value_and_grad(ours, argnums=(0, 1, 2))(params, state, xs)
    theirs = convert.from_torch({name: np.asarray(p.grad) for name, p in net.named_parameters()})
    theirs = lstm.Params(*(gate._replace(b=gate.b / 2) for gate in theirs))  # both of torch's biases have it
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert relative_error(dparams, theirs) < 1e-5
    np.testing.assert_allclose(dxs, x.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dstate.wm, start[0].grad[0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dstate.ltm, start[1].grad[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell"])
def test_against_flax(cell):
    linen = pytest.importorskip("flax.linen")
    (params, state, xs), _ = case(17, T=20, B=6)
    _, output = linen.RNN(getattr(linen, cell)(5), time_major=True, return_carry=True).apply(
        {"params": {"cell": convert.to_flax(params)}}, xs, initial_carry=tuple(state)
    )
    np.testing.assert_allclose(lstm.unroll(params, state, xs)[1].wm, output, rtol=1e-4, atol=1e-5)


def test_parameters_as_a_file(tmp_path):
    params = mlp.init(jax.random.key(0), SIZES)
    convert.export(tmp_path / "net.safetensors", params)
    loaded = convert.load(tmp_path / "net.safetensors", mlp.init(jax.random.key(1), SIZES))
    assert_same_bits(loaded, params)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    params = mlp.init(jax.random.key(0), SIZES)
    convert.export(tmp_path / "net", params)
    arrays = load_file(tmp_path / "net")
    assert sorted(arrays) == ["0.b", "0.w", "1.b", "1.w"]
    np.testing.assert_array_equal(arrays["1.w"], params[1].w)


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "net"
    params = mlp.init(jax.random.key(0), SIZES)
    convert.export(path, params)
    with pytest.raises(ValueError, match=r"other arrays: 0.b is float32\[5\] there and float32\[6\] here"):
        convert.load(path, mlp.init(jax.random.key(0), (4, 6, 3)))
    with pytest.raises(ValueError, match=r"other arrays: 1.b is .* there and None here"):
        convert.load(path, params[:1])
    with pytest.raises(FileNotFoundError, match="nothing, which does not exist"):
        convert.load(tmp_path / "nothing", params)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="net is damaged or not a safetensors file"):
        convert.load(path, params)
    with pytest.raises(OSError, match="cannot write .*net"):
        convert.export(tmp_path / "no folder" / "net", params)
    with pytest.raises(TypeError, match=r"params\['a'\] must be an array, got str"):
        convert.export(path, {"a": "text"})


@pytest.mark.bad_input
def test_missing_weights():
    arrays = convert.to_torch(case(0)[0][0])
    del arrays["bias_hh_l0"]
    with pytest.raises(ValueError, match="bias_hh_l0 must be in the state_dict of an LSTM, got weight_ih_l0"):
        convert.from_torch(arrays)
    cell = convert.to_flax(case(0)[0][0])
    del cell["hf"]
    with pytest.raises(ValueError, match="hf must be in the parameters of an LSTMCell"):
        convert.from_flax(cell)
