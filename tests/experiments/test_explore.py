"""The page of figures that move: in a browser it computes what jnn computes, and every hand can move it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import common
from experiments.explore import page
from jnn import activations, backprop, costs, gradient_flow, lstm, mlp, perceptron, ridge, universal

SETTINGS = 60
"""The settings of each panel that are compared, all in one call."""


@functools.cache
def counter():
    """A random LSTM whose weights the page holds exactly."""
    net = common.init_net(jax.random.key(0), 4, 5, 4, rem_bias=3.0)
    return jax.tree.map(lambda a: np.round(np.asarray(a, np.float64), 4), net)


@functools.cache
def text():
    return page.html(counter())


class Tab:
    """The page in a browser, what it requested, and what went wrong."""

    def __init__(self, browser, path, address="", **settings):
        path.write_text(text(), encoding="utf-8")
        self.url, self.requested, self.errors = path.as_uri(), [], []
        self.context = browser.new_context(**{"viewport": {"width": 390, "height": 844}, **settings})
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open(address)

    def open(self, address):
        self.page.goto("about:blank")
        self.page.goto(self.url + address)
        self.wait()

    def wait(self):
        """Until the page has shown what was set."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def map(self, function, *settings):
        """A function of JavaScript of each setting."""
        settings = [[np.asarray(part).tolist() for part in parts] for parts in zip(*settings, strict=True)]
        return self.page.evaluate(f"settings => settings.map(({function}))", settings)

    def value(self, name):
        return self.page.eval_on_selector(f".panel:not([hidden]) [name={name}]", "input => input.value")

    def result(self, figure):
        return self.page.evaluate(f"() => figures['{figure}'].result")

    def close(self):
        assert self.requested[1:] == [] or set(self.requested) <= {self.url, "about:blank"}
        assert not self.errors
        assert self.page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        self.context.close()


@pytest.fixture(scope="module")
def shared(browser, tmp_path_factory):
    """One tab for all that computes and changes nothing."""
    tab = Tab(browser, tmp_path_factory.mktemp("explore") / "explore.html")
    yield tab
    tab.close()


@pytest.fixture
def tab(browser, tmp_path):
    tab = Tab(browser, tmp_path / "explore.html", has_touch=True)
    yield tab
    tab.close()


@pytest.fixture
def draw():
    """Random numbers by a shape with a leading axis of settings."""
    rng = np.random.default_rng(0)
    return lambda *shape, scale=1.0: scale * rng.standard_normal((SETTINGS, *shape))


def same(found, expected):
    """Equal trees of numbers, to 1e-6 in absolute terms and relative to those above 1."""
    leaves = jax.tree.leaves(expected)
    numbers = jax.tree.leaves(found)
    assert len(numbers) == sum(np.size(leaf) for leaf in leaves)
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves])
    np.testing.assert_allclose(np.array(numbers, np.float64), flat, rtol=1e-6, atol=1e-6)


def every(found, *expected):
    """The same for each setting: `expected` are arrays with a leading axis of settings."""
    assert len(found) == SETTINGS
    same(found, [jax.tree.map(lambda a, i=i: np.asarray(a)[i], list(expected)) for i in range(SETTINGS)])


# The mathematics of each panel


def test_perceptrons_and_sigmoid_neurons_are_those_of_jnn(shared, draw, x64):
    w1, b1, w2, b2, x = draw(3, 2), draw(3), draw(1, 3), draw(1), draw(2)
    b1[:10, 0] = -(w1[:10, 0, 0] * x[:10, 0] + w1[:10, 0, 1] * x[:10, 1])  # the case w x + b = 0
    c = 10 ** draw(scale=0.5)
    function = """([w1, b1, w2, b2, x, c]) => {
        const {forward, scale, sigmoid, step} = maths.perceptron, net = [[w1, b1], [w2, b2]];
        return [forward(sigmoid, scale(net, c), x), forward(step, net, x)];
    }"""
    net = (mlp.Layer(w1, b1), mlp.Layer(w2, b2))
    soft = jax.vmap(lambda net, x, c: mlp.forward(perceptron.scale(net, c), x))(net, x, c)
    every(shared.map(function, w1, b1, w2, b2, x, c), soft, jax.vmap(perceptron.forward)(net, x))


def test_backpropagation_is_that_of_jnn(shared, draw, x64):
    w1, b1, w2, b2, w3, b3, x, y = draw(4, 3), draw(4), draw(2, 4), draw(2), draw(2, 2), draw(2), draw(3), draw(2)
    eta = 10 ** draw(scale=0.5)
    function = """([w1, b1, w2, b2, w3, b3, x, y, eta]) => {
        const net = [[w1, b1], [w2, b2], [w3, b3]], found = maths.backprop.backprop(net, x, y);
        const {zs, as, cost, deltas, gradients} = found;
        return [zs, as.slice(0, -1), cost, deltas, gradients, maths.backprop.descend(net, gradients, eta)];
    }"""
    net = (mlp.Layer(w1, b1), mlp.Layer(w2, b2), mlp.Layer(w3, b3))

    @jax.jit
    @jax.vmap
    def expected(net, x, y, eta):
        zs, below = backprop.feedforward(net, x)
        value, grads = backprop.value_and_grad(net, x, y, cost=costs.quadratic)
        stepped = jax.tree.map(lambda p, g: p - eta * g, net, grads)
        return zs, below, value, backprop.errors(net, zs, y), grads, stepped

    every(shared.map(function, w1, b1, w2, b2, w3, b3, x, y, eta), *expected(net, x, y, eta))


def test_slow_and_fast_learning_are_those_of_jnn(shared, draw, x64):
    w, b, eta, z = draw(scale=2), draw(scale=2), 10 ** draw(scale=0.4), draw(scale=5)
    y = np.linspace(0, 1, SETTINGS)
    function = """([w, b, eta, z, y]) => {
        const {learn, costs, deltas, entropy, sigmoid} = maths.slow_start, names = ["quadratic", "crossEntropy"];
        return [names.map(name => learn(name, w, b, eta, 20)), names.map(name => costs[name](z, y)),
            names.map(name => deltas[name](sigmoid(z), y)), entropy(y)];
    }"""

    @jax.jit
    @jax.vmap
    def expected(w, b, eta, z, y):
        def learn(cost):
            def step(net, _):
                _, grads = backprop.value_and_grad(net, jnp.ones(1), jnp.zeros(1), cost=cost)
                return jax.tree.map(lambda p, g: p - eta * g, net, grads), mlp.forward(net, jnp.ones(1))[0]

            return jax.lax.scan(step, (mlp.Layer(w[None, None], b[None]),), None, length=21)[1]

        both = costs.quadratic, costs.cross_entropy
        z, y = z[None], y[None]
        values, deltas = [cost.value(z, y) for cost in both], [cost.delta(z, y)[0] for cost in both]
        return [learn(cost) for cost in both], values, deltas, costs.binary_entropy(y)[0]

    every(shared.map(function, w, b, eta, z, y), *expected(w, b, eta, z, y))


def test_softmax_is_that_of_jnn(shared, draw, x64):
    z, c = draw(4, scale=2), 10 ** draw()
    z[:10, 2] = z[:10].max(axis=1)  # ties
    function = "([z, c]) => [maths.softmax.softmax(z, c), maths.softmax.limit(z)]"
    softmax = jax.vmap(activations.softmax)
    every(shared.map(function, z, c), softmax(z, c), softmax(z, np.full(SETTINGS, 1e9)))


def test_ridge_is_that_of_jnn(shared, draw, x64):
    eigenvalues, angle, w, alpha = 10 ** draw(2), draw(scale=90), draw(2), 10 ** draw()
    function = """([lambda, angle, w, alpha]) => {
        const h = maths.softmax.hessian(lambda, angle);
        return [h, maths.softmax.solve(h, w, alpha), lambda.map(l => maths.softmax.shrinkage(l, alpha))];
    }"""
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    q = np.array([[cosine, -sine], [sine, cosine]]).transpose(2, 0, 1)
    hessian = np.einsum("nij,nj,nkj->nik", q, eigenvalues, q)
    solutions = jax.vmap(ridge.solve_spectral)(hessian, w, alpha)
    shrinkage = jax.vmap(ridge.shrinkage)(eigenvalues, alpha)
    every(shared.map(function, eigenvalues, angle, w, alpha), hessian, solutions, shrinkage)


def stacked(nets):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *nets)


def test_steps_rectangles_and_towers_are_those_of_jnn(shared, draw, x64):
    lower, x = draw(2), draw(2)
    upper, w, h = lower + np.abs(draw(2)) + 0.1, 10 ** draw(), 10 ** draw()
    function = """([lower, upper, w, h, x]) => {
        const {step, rectangle, tower} = maths.universal;
        return [step(x[0], lower[0], w), rectangle(x[0], lower[0], upper[0], w, h), tower(x, lower, upper, w, h, 1.5)];
    }"""
    forward = jax.jit(jax.vmap(mlp.forward))
    args = list(zip(lower, upper, w, h, strict=True))
    steps = stacked([universal.step(s[0], v, dtype=float) for s, _, v, _ in args])
    rectangles = stacked([universal.rectangle(s[0], t[0], w=v, h=u, dtype=float) for s, t, v, u in args])
    towers = stacked([universal.tower(s, t, w=v, h=u, dtype=float) for s, t, v, u in args])
    expected = forward(steps, x[:, :1])[:, 0], forward(rectangles, x[:, :1])[:, 0], forward(towers, x)[:, 0]
    every(shared.map(function, lower, upper, w, h, x), *expected)


def test_approximations_are_those_of_jnn(shared, draw, x64):
    """Of functions through random values, with 1 to 20 bins, sharp and soft."""
    values, x = draw(9), np.random.default_rng(1).random((SETTINGS, 7))
    bins, soft = np.resize([1, 2, 5, 20], SETTINGS), np.resize([0, 0, 0, 0, 1, 1, 1, 1], SETTINGS)
    function = """([values, bins, soft, xs]) => {
        const {approximate, through} = maths.universal, net = approximate(through(values), bins, Boolean(soft));
        return [net.heights, xs.map(net.output)];
    }"""
    found = shared.map(function, values, bins, soft, x)
    evaluate = jax.jit(jax.vmap(mlp.logits, in_axes=(None, 0)))
    for i, (heights, outputs) in enumerate(found):
        f = functools.partial(lambda i, x: jnp.interp(x[0], jnp.linspace(0, 1, 9), jnp.asarray(values[i])), i)
        net = universal.approximate(f, 0.0, 1.0, int(bins[i]), soft=bool(soft[i]), dtype=float)
        same([heights, outputs], [net[-1].w, evaluate(net, x[i][:, None])])
    assert len(found) == SETTINGS


def test_nielsens_function_is_that_of_figure_4_5(shared, x64):
    from experiments.chapter_4 import fig_4_5_approximation

    x = np.linspace(0, 1, SETTINGS)
    every(shared.map("([x]) => [maths.universal.nielsen(x)]", x), fig_4_5_approximation.f(x))


def test_the_chain_is_that_of_jnn(shared, draw, x64):
    weights, x, y = 1 + draw(12, 2, scale=0.5), draw(2), draw()
    function = """([weights, x, y]) => {
        const {output, gradient, back} = maths.gradients.chain(weights, x, y);
        return [output, gradient, back];
    }"""

    @jax.jit
    @jax.vmap
    def expected(weights, x, y):
        loss = lambda last: (y - jnp.sum(last)) ** 2 / 2  # noqa: E731
        _, derivatives = gradient_flow.flow(lambda a, w: w * a, x, weights, loss)
        return gradient_flow.chain(weights, x), gradient_flow.chain_gradient(weights, x, y), derivatives

    every(shared.map(function, weights, x, y), *expected(weights, x, y))


def network(tab, seed, layers, n=16):
    """The input and the weights that the page draws with this seed."""
    function = f"([seed]) => [...maths.gradients.normals(seed, {n + layers * n * n})]"
    (numbers,) = tab.map(function, [seed])
    return np.array(numbers[:n]), np.reshape(numbers[n:], (layers, n, n))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_the_flow_of_gradients_is_that_of_jnn(name, shared, draw, x64):
    act, (x, weights) = getattr(activations, name), network(shared, 3, 6)
    gains, z = np.abs(draw()) + 0.2, draw(scale=3)
    function = f"""([g, z]) => {{
        const {{flow, normals, activations}} = maths.gradients, numbers = normals(3, 16 + 6 * 256);
        return [flow("{name}", numbers, 16, 6, g), activations["{name}"].map(f => f(z))];
    }}"""

    @jax.jit
    @jax.vmap
    def expected(g):
        step = lambda a, w: act(g / 4 * w @ a)  # noqa: E731
        return gradient_flow.norms(gradient_flow.flow(step, jnp.asarray(x), jnp.asarray(weights), jnp.sum)[1])

    every(shared.map(function, gains, z), expected(gains), np.stack([act(z), act.prime(z)], axis=1))


def test_random_numbers_are_normal_and_differ_by_seed(shared):
    numbers = np.array([network(shared, seed, 10)[1].ravel() for seed in (1, 2, 8)])
    np.testing.assert_allclose(numbers.mean(axis=1), 0, atol=0.1)
    np.testing.assert_allclose(numbers.std(axis=1), 1, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(numbers) - np.eye(3), 0, atol=0.1)


def forced(cell, gate, unit, is_open):
    """The parameters whose gate of this unit is always open, or shut."""
    W, U, b = map(jnp.asarray, getattr(cell, gate))
    return cell._replace(
        **{gate: lstm.Gate(W.at[unit].set(0), U.at[unit].set(0), b.at[unit].set(40.0 if is_open else -40.0))}
    )


def test_the_lstm_and_its_gradients_are_those_of_jnn(shared, x64):
    """As learnt, and with one gate after another forced open or shut."""
    cell, out = counter()
    symbols = np.random.default_rng(0).integers(0, 3, (SETTINGS, 9))
    units, gates = np.resize([0, 1, 2, 3, 4], SETTINGS), np.resize(["", "rem", "save", "focus"], SETTINGS)
    opens = np.arange(SETTINGS) % 8 < 4
    function = """([symbols, unit, gate, open]) => {
        const {unroll, gradients, force} = maths.lstm, learnt = JSON.parse(element("counter").textContent);
        const params = gate ? force(learnt, gate, unit, open) : learnt, trace = unroll(params, symbols);
        const of = name => trace.map(step => step[name]), back = gradients(params, trace, unit);
        const names = ["ltm", "wm", "expects", "rem", "save", "focus", "candidate"];
        return [...names.map(of), back.map(({ltm}) => ltm), back.map(({wm}) => wm)];
    }"""
    params = stacked([forced(cell, g, u, o) if g else cell for g, u, o in zip(gates, units, opens, strict=True)])

    @jax.jit
    @jax.vmap
    def expected(cell, symbols, unit):
        xs, start = jax.nn.one_hot(symbols, 4, dtype=float), lstm.zero_state(5, dtype=float)
        _, states = lstm.scan(cell, start, xs)
        before = jnp.concatenate([start.wm[None], states.wm[:-1]])
        z = {name: xs @ gate.W.T + before @ gate.U.T + gate.b[None] for name, gate in cell._asdict().items()}
        inner = [activations.sigmoid(z[name]) for name in ("rem", "save", "focus")]
        _, back = gradient_flow.flow(lambda s, x: lstm.step(cell, s, x), start, xs, lambda s: s.ltm[unit])
        expects = activations.softmax(states.wm @ out.w.T + out.b[None])
        return states.ltm, states.wm, expects, *inner, jnp.tanh(z["ltm"]), back.ltm, back.wm

    every(shared.map(function, symbols, units, gates, opens), *expected(params, symbols, units))


def test_the_counter_is_the_unit_with_the_largest_correlation(shared, x64):
    symbols = np.array([0] * 6 + [1] + [2] * 6)
    cell, _ = counter()
    _, states = lstm.scan(cell, lstm.zero_state(5, dtype=float), jax.nn.one_hot(symbols, 4, dtype=float))
    count = np.cumsum((symbols == 0) * 1 - (symbols == 2) * 1)
    best = np.argmax(np.abs([np.corrcoef(unit, count)[0, 1] for unit in np.asarray(states.ltm).T]))
    function = """([symbols]) => maths.lstm.counter(
        maths.lstm.unroll(JSON.parse(element("counter").textContent), symbols), symbols)"""
    assert shared.map(function, [symbols]) == [best]
