"""The page of figures that move: in a browser it computes what jnn computes, and every hand can move it."""

import ast
import functools
import re
from urllib.parse import urlencode

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from experiments import __main__ as command
from experiments import common, explore
from experiments.chapter_5 import counting
from experiments.explore import page
from jnn import activations, backprop, costs, gradient_flow, lstm, mlp, perceptron, pictures, ridge, universal
from tests.browsing import Tab

SETTINGS = 60
"""The settings of each panel that are compared, all in one call."""


@functools.cache
def counter():
    """A random LSTM whose weights the page holds exactly."""
    net = common.init_net(jax.random.key(0), 4, 5, 4, rem_bias=3.0)
    return jax.tree.map(lambda a: np.round(np.asarray(a, np.float64), 4), net)


@functools.cache
def reader():
    """A small random network whose weights half precision holds exactly."""
    key, biases = jax.random.key(0), jax.nn.initializers.normal(0.1)
    params = mlp.init(key, (784, 12, 7, 10), biases=biases, dtype=jnp.float16)
    return jax.tree.map(lambda a: np.asarray(a, np.float64), params)


@functools.cache
def text():
    return page.html(counter(), reader(), 0.5)


class Explorer(Tab):
    """The page, opened at an address; what its panels show and compute."""

    def __init__(self, browser, path, **settings):
        super().__init__(browser, path, text(), **{"viewport": {"width": 390, "height": 844}, **settings})
        self.wait()

    def open(self, address):
        self.page.goto("about:blank")
        self.page.goto(self.url + address)
        self.wait()

    def map(self, function, *settings):
        """A function of JavaScript of each setting."""
        settings = [[np.asarray(part).tolist() for part in parts] for parts in zip(*settings, strict=True)]
        return self.page.evaluate(f"settings => settings.map(({function}))", settings)

    def value(self, name):
        return self.page.eval_on_selector(f".panel:not([hidden]) [name={name}]", "input => input.value")

    def result(self, figure):
        return self.page.evaluate(f"() => figures['{figure}'].result")


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    tab = Explorer(browser, tmp_path_factory.mktemp("explore") / "explore.html", has_touch=True)
    yield tab
    tab.context.close()


@pytest.fixture
def tab(opened):
    """One tab for all tests, which open it anew where they change it."""
    opened.errors.clear()
    yield opened
    opened.check()


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


def test_perceptrons_and_sigmoid_neurons_are_those_of_jnn(tab, draw, x64):
    w1, b1, w2, b2, x = draw(3, 2), draw(3), draw(1, 3), draw(1), draw(2)
    b1[:10, 0] = -(w1[:10, 0, 0] * x[:10, 0] + w1[:10, 0, 1] * x[:10, 1])  # the case w x + b = 0
    c = 10 ** draw(scale=0.5)
    function = """([w1, b1, w2, b2, x, c]) => {
        const {forward, scale, sigmoid, step} = maths.perceptron, net = [[w1, b1], [w2, b2]];
        return [forward(sigmoid, scale(net, c), x), forward(step, net, x)];
    }"""
    net = (mlp.Layer(w1, b1), mlp.Layer(w2, b2))
    soft = jax.vmap(lambda net, x, c: mlp.forward(perceptron.scale(net, c), x))(net, x, c)
    every(tab.map(function, w1, b1, w2, b2, x, c), soft, jax.vmap(perceptron.forward)(net, x))


def test_backpropagation_is_that_of_jnn(tab, draw, x64):
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

    every(tab.map(function, w1, b1, w2, b2, w3, b3, x, y, eta), *expected(net, x, y, eta))


def test_slow_and_fast_learning_are_those_of_jnn(tab, draw, x64):
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

    every(tab.map(function, w, b, eta, z, y), *expected(w, b, eta, z, y))


def test_softmax_is_that_of_jnn(tab, draw, x64):
    z, c = draw(4, scale=2), 10 ** draw()
    z[:10, 2] = z[:10].max(axis=1)  # ties
    function = "([z, c]) => [maths.softmax.softmax(z, c), maths.softmax.limit(z)]"
    softmax = jax.vmap(activations.softmax)
    every(tab.map(function, z, c), softmax(z, c), softmax(z, np.full(SETTINGS, 1e9)))


def test_ridge_is_that_of_jnn(tab, draw, x64):
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
    every(tab.map(function, eigenvalues, angle, w, alpha), hessian, solutions, shrinkage)


def stacked(nets):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *nets)


def test_steps_rectangles_and_towers_are_those_of_jnn(tab, draw, x64):
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
    every(tab.map(function, lower, upper, w, h, x), *expected)


def test_approximations_are_those_of_jnn(tab, draw, x64):
    """Of functions through random values, with 1 to 20 bins, sharp and soft."""
    values, x = draw(9), np.random.default_rng(1).random((SETTINGS, 7))
    bins, soft = np.resize([1, 2, 5, 20], SETTINGS), np.resize([0, 0, 0, 0, 1, 1, 1, 1], SETTINGS)
    function = """([values, bins, soft, xs]) => {
        const {approximate, through} = maths.universal, net = approximate(through(values), bins, Boolean(soft));
        return [net.heights, xs.map(net.output)];
    }"""
    found = tab.map(function, values, bins, soft, x)
    evaluate = jax.jit(jax.vmap(mlp.logits, in_axes=(None, 0)))
    for i, (heights, outputs) in enumerate(found):
        f = functools.partial(lambda i, x: jnp.interp(x[0], jnp.linspace(0, 1, 9), jnp.asarray(values[i])), i)
        net = universal.approximate(f, 0.0, 1.0, int(bins[i]), soft=bool(soft[i]), dtype=float)
        same([heights, outputs], [net[-1].w, evaluate(net, x[i][:, None])])
    assert len(found) == SETTINGS


def test_nielsens_function_is_that_of_figure_4_5(tab, x64):
    from experiments.chapter_4 import fig_4_5_approximation

    x = np.linspace(0, 1, SETTINGS)
    every(tab.map("([x]) => [maths.universal.nielsen(x)]", x), fig_4_5_approximation.f(x))


def test_the_chain_is_that_of_jnn(tab, draw, x64):
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

    every(tab.map(function, weights, x, y), *expected(weights, x, y))


def network(tab, seed, layers, n=16):
    """The input and the weights that the page draws with this seed."""
    function = f"([seed]) => [...maths.gradients.normals(seed, {n + layers * n * n})]"
    (numbers,) = tab.map(function, [seed])
    return np.array(numbers[:n]), np.reshape(numbers[n:], (layers, n, n))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_the_flow_of_gradients_is_that_of_jnn(name, tab, draw, x64):
    act, (x, weights) = getattr(activations, name), network(tab, 3, 6)
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

    every(tab.map(function, gains, z), expected(gains), np.stack([act(z), act.prime(z)], axis=1))


def test_random_numbers_are_normal_and_differ_by_seed(tab):
    numbers = np.array([network(tab, seed, 10)[1].ravel() for seed in (1, 2, 8)])
    np.testing.assert_allclose(numbers.mean(axis=1), 0, atol=0.1)
    np.testing.assert_allclose(numbers.std(axis=1), 1, atol=0.1)
    np.testing.assert_allclose(np.corrcoef(numbers) - np.eye(3), 0, atol=0.1)


def forced(cell, gate, unit, is_open):
    """The parameters whose gate of this unit is always open, or shut."""
    W, U, b = map(jnp.asarray, getattr(cell, gate))
    return cell._replace(
        **{gate: lstm.Gate(W.at[unit].set(0), U.at[unit].set(0), b.at[unit].set(40.0 if is_open else -40.0))}
    )


def test_the_lstm_and_its_gradients_are_those_of_jnn(tab, x64):
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

    every(tab.map(function, symbols, units, gates, opens), *expected(params, symbols, units))


def test_the_counter_is_the_unit_with_the_largest_correlation(tab, x64):
    symbols = np.array([0] * 6 + [1] + [2] * 6)
    cell, _ = counter()
    _, states = lstm.scan(cell, lstm.zero_state(5, dtype=float), jax.nn.one_hot(symbols, 4, dtype=float))
    count = np.cumsum((symbols == 0) * 1 - (symbols == 2) * 1)
    best = np.argmax(np.abs([np.corrcoef(unit, count)[0, 1] for unit in np.asarray(states.ltm).T]))
    function = """([symbols]) => maths.lstm.counter(
        maths.lstm.unroll(JSON.parse(element("counter").textContent), symbols), symbols)"""
    assert tab.map(function, [symbols]) == [best]


def drawings():
    """Strokes and specks of random thickness, as grey pixels [48, 40]."""
    rng = np.random.default_rng(0)
    for _ in range(SETTINGS):
        image = Image.new("L", (160, 192), 255)
        pen = ImageDraw.Draw(image)
        for points in rng.uniform(20, 140, (rng.integers(1, 4), 3, 2)):
            pen.line([tuple(point) for point in points], fill=0, width=int(rng.integers(12, 24)), joint="curve")
        pen.point(tuple(rng.uniform(0, 160, 2)), fill=0)
        yield np.asarray(image.resize((40, 48), Image.Resampling.BOX))


def test_drawings_are_normalised_as_jnn_does(tab):
    shown = list(drawings())
    function = "([ink]) => [Array.from(maths.digit.normalised(Float64Array.from(ink.flat()), 40, 48))]"
    every(tab.map(function, [1 - image / 255 for image in shown]), np.stack([pictures.normalise(i) for i in shown]))


def test_digits_are_read_as_jnn_does(tab, x64):
    """The layers' activations, and the derivative of the largest output's weighted input by those of the first."""
    params, rng = reader(), np.random.default_rng(0)
    x = rng.random((SETTINGS, 784)) * (rng.random((SETTINGS, 784)) < 0.2)
    function = """([x]) => {
        const {forward, slopes} = maths.digit, found = forward(x), last = found.at(-1);
        return [found.map(a => Array.from(a)), slopes(last.indexOf(Math.max(...last)), found)];
    }"""
    relu = activations.relu

    @jax.jit
    @jax.vmap
    def expected(x):
        layers = [mlp.forward(params[:n], x, hidden=relu, output=relu) for n in (1, 2)]
        z, pull = jax.vjp(lambda a: mlp.logits(params[1:], a, hidden=relu), layers[0])
        return [*layers, activations.softmax(z)], pull(jax.nn.one_hot(jnp.argmax(z), 10))[0]

    every(tab.map(function, x), *expected(x))


# The calls of jnn that the page shows

CALLS = {
    "perceptron": {"c": 1.3, "x": -0.35, "c2": 0.9, "x2": 1.1, "b2": 0.4},
    "backprop": {"x1": 0.1, "w221": 1.5, "b31": 2, "y": 1},
    "slow_start": {"w": 0.6, "b": 0.9, "step": 3, "y": 0, "z": -2.5},
    "softmax": {"c": -0.5, "z3": 2.5, "alpha": 0.7, "angle": 100, "u": -1.5},
    "universal": {"w": 3, "s1": 0.1, "x": 0.1, "bins": 4, "kind": "soft", "drawn": "10" * 30 + "75" * 35, "share": 0.8},
    "gradients": {"depth": 7, "v": 0.6, "act": "tanh", "g": 1.5, "seed": 3, "z": -1.2},
    "lstm": {"text": "aaXbba", "unit": 2, "rem": "open", "focus": "shut"},
}
"""Settings of every panel other than its defaults."""


@pytest.mark.parametrize("panel", CALLS)
def test_the_calls_that_are_shown_compute_what_is_shown(panel, tab, x64):
    tab.open(f"#{panel}?{urlencode(CALLS[panel])}")
    cell = jax.tree.map(jnp.asarray, counter().cell)
    known = {"jax": jax, "jnp": jnp, "network": functools.partial(network, tab), "cell": cell}
    figures = "panel => Object.values(figures).filter(f => f.panel === panel).map(f => f.name)"
    for figure in tab.page.evaluate(figures, panel):
        code = tab.page.eval_on_selector(f"#figure-{figure} .call", "code => code.textContent")
        *lines, last = ast.parse(code).body
        names = dict(known)
        exec(compile(ast.Module(lines, []), figure, "exec"), names)  # noqa: S102
        same(tab.result(figure), eval(compile(ast.Expression(last.value), figure, "eval"), names))  # noqa: S307


# Hands, links and files


def at(tab, name):
    """The middle of the handle of a slider, and how far one of its steps is, in pixels."""
    return tab.page.eval_on_selector(
        f".panel:not([hidden]) [name={name}]",
        """input => {
            input.scrollIntoView({block: "center"});
            const box = input.getBoundingClientRect(), share = (input.value - input.min) / (input.max - input.min);
            return [box.left + 8 + share * (box.width - 16), box.top + box.height / 2];
        }""",
    )


def test_a_finger_drags_a_slider(tab):
    tab.open("#softmax")
    before, (x, y) = tab.result("softmax"), at(tab, "z2")
    tab.finger((x, y), (x + 30, y), (x + 60, y))
    assert float(tab.value("z2")) > 0.4
    assert tab.result("softmax")[1] > before[1]


def test_a_weight_is_dragged_sideways(tab):
    tab.open("#backprop")
    before, (x, y) = tab.result("backprop"), at(tab, "w311")
    tab.mouse((x, y), (x + 40, y))
    assert tab.value("w311") == "1.7"  # 4 pixels a step of 0.05
    assert tab.result("backprop") != before


def test_a_step_of_gradient_descent_lowers_the_cost(tab):
    tab.open("#backprop")
    before, _ = tab.result("backprop")
    tab.press("gradient descent")
    assert tab.result("backprop")[0] < before


def test_the_case_of_zero_is_exactly_zero(tab):
    tab.open("#perceptron?w=1.37&b=0.411&c=2.5")
    tab.press("wx + b = 0")
    assert tab.result("neuron") == [0.5]
    assert tab.page.locator("#figure-neuron .orange dd").inner_text() == "0"


def test_a_finger_draws_a_function_that_the_network_takes(tab):
    tab.open("#universal?bins=2&at=0.25")
    x, y, width, height = tab.page.eval_on_selector(
        "#figure-approximate svg",
        """svg => {
            svg.scrollIntoView({block: "center"});
            const box = svg.getBoundingClientRect();
            return [box.left + 44, box.top + 24, box.width - 56, box.height - 60];
        }""",
    )
    tab.finger(*[(x + share * width, y + 0.2 * height) for share in (0.02, 0.2, 0.5, 0.9)])
    assert tab.result("approximate") == pytest.approx([0.8], abs=0.02)


def test_links_keep_the_state(tab):
    """What is set is in the address, and the address restores it."""
    tab.open("#softmax?c=1&z1=-2.5")
    assert (tab.value("c"), tab.value("z1"), tab.value("z2")) == ("1", "-2.5", "0.4")
    tab.page.focus("[name=z2]")
    tab.page.keyboard.press("End")
    tab.page.wait_for_function("() => location.hash === '#softmax?c=1&z1=-2.5&z2=3'", timeout=5_000)
    address = tab.page.evaluate("location.hash")
    tab.page.get_by_role("link", name="Slow start").click()
    tab.wait()
    assert tab.page.locator("h2:visible").inner_text() == "Slow start"
    tab.page.get_by_role("link", name="Softmax").click()
    tab.wait()
    assert tab.value("z2") == "3"
    tab.press("Reset")
    assert tab.value("z2") == "0.4"
    tab.open(address)
    assert (tab.value("c"), tab.value("z1"), tab.value("z2")) == ("1", "-2.5", "3")


@pytest.mark.parametrize(
    ("address", "values"),
    [
        ("#nothing", {"w": "2"}),
        ("#softmax?c=x&z1=99&other=1", {"c": "0", "z1": "3"}),
        ("#lstm?text=%3Cb%3E&unit=99&rem=?", {"unit": "5", "rem": "free"}),
        ("#digit?strokes=z!", {}),
    ],
)
def test_addresses_with_mistakes_show_a_panel(address, values, tab):
    tab.open(address)
    assert tab.page.locator(".panel:visible").count() == 1
    assert {name: tab.value(name) for name in values} == values


def test_the_strokes_of_a_digit_are_kept(tab):
    tab.open("#digit")
    x, y, width, _ = tab.page.locator("#paper").bounding_box().values()
    tab.mouse((x + 0.5 * width, y + 0.2 * width), (x + 0.45 * width, y + 0.8 * width))
    tab.page.wait_for_function("() => location.hash.startsWith('#digit?strokes=')", timeout=5_000)
    outputs, address = tab.page.evaluate("() => [Array.from(reader.outputs), location.hash]")
    tab.open(address)
    np.testing.assert_allclose(tab.page.evaluate("() => Array.from(reader.outputs)"), outputs, atol=0.05)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light")])
def test_every_panel_fits_and_has_names(width, scheme, browser, tmp_path):
    """Nothing is wider than the window, each control has a name, and each figure says what it shows."""
    tab = Explorer(browser, tmp_path / "explore.html", viewport={"width": width, "height": 844}, color_scheme=scheme)
    for panel in page.PANELS:
        tab.page.evaluate("panel => location.hash = panel", panel)
        tab.page.wait_for_function("panel => !document.getElementById(panel).hidden", arg=panel, timeout=5_000)
        tab.wait()
        assert tab.overflow() <= 0, panel
        nameless = tab.page.evaluate(
            """() => [...document.querySelectorAll("input:not([type=hidden]), select, button, [role=img], a")]
                .filter(e => e.checkVisibility())
                .filter(e => !e.getAttribute("aria-label") && !e.textContent.trim() && !e.labels?.length)
                .map(e => e.outerHTML.slice(0, 100))"""
        )
        assert not nameless, panel
    tab.check()
    tab.context.close()


def test_dark_and_light_differ_while_the_page_is_open(tab):
    tab.open("#perceptron")
    seen = []
    for scheme in ("light", "dark", "light"):
        tab.page.emulate_media(color_scheme=scheme)
        tab.wait()
        seen.append(tab.page.evaluate("() => document.querySelector('#figure-band canvas').toDataURL()"))
    assert seen[0] == seen[2] != seen[1]


def test_the_page_is_small_and_needs_nothing_else():
    weights = sum(len(found) for found in re.findall(r'type="application/json">(.*?)</script>', text()))
    assert len(text().encode()) - weights < 400_000
    assert not re.search(r"https?:(?!//www\.w3\.org/1998/Math)|@import|url\(|<script[^>]* src", text())
    assert re.findall(r'<link[^>]* href="(.*?)"', text()) == ["data:,"]
    assert re.search(r"<noscript>.{0,20}This page needs JavaScript", text())


@pytest.mark.parametrize("flags", [[], ["--quick"]])
def test_the_command_writes_the_page(flags, tmp_path, monkeypatch, capsys):
    sizes = counting.Config.quick if flags else explore.command.COUNTING
    net = {counting.Config(**sizes): (None, None, counter())}
    monkeypatch.setattr(counting, "learn", net.__getitem__)
    assert command.main(["explore", *flags, "--out", str(tmp_path)]) == 0
    written = tmp_path / "explore" / "explore.html"
    assert capsys.readouterr().out == f"open {written} in a browser, on a phone too\n"
    assert "The notes under your hand" in written.read_text(encoding="utf-8")
    assert [path.name for path in written.parent.iterdir()] == ["explore.html"]


@pytest.mark.bad_input
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command.main(["explore", "--quick", "--out", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: cannot write to ")
    assert shown.err.count("\n") == 1
    assert not shown.out
