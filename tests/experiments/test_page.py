"""The page to draw digits on: in a browser it computes what jnn computes from the same pixels."""

import base64
import functools
import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.read import page
from jnn import activations, mlp, pictures
from tests.browsing import Tab, contrast

SURE = 0.5


def wide(key, shape, dtype):
    """So that some outputs are sure; drawn neuron by neuron."""
    draw = jax.nn.initializers.variance_scaling(8.0, "fan_in", "normal", in_axis=-1, out_axis=-2)
    return draw(key, shape[::-1], dtype).T


STROKES = {  # in pixels of a canvas of 280
    "0": [[(150, 50), (105, 75), (85, 140), (105, 215), (150, 232), (190, 205), (205, 140), (188, 75), (148, 48)]],
    "1": [[(120, 90), (152, 55), (146, 228)]],
    "2": [[(88, 95), (110, 58), (155, 50), (186, 84), (170, 130), (90, 222), (205, 218)]],
    "4": [[(120, 52), (84, 150), (206, 146)], [(168, 88), (160, 236)]],
    "5": [[(112, 62), (104, 132), (150, 122), (188, 152), (184, 202), (140, 228), (92, 212)], [(112, 62), (186, 56)]],
    "7": [[(85, 68), (198, 62), (160, 130), (128, 232)]],
    "a large 7": [[(12, 9), (268, 11), (150, 120), (91, 274)]],
    "a small 1": [[(32, 221), (40, 212), (37, 241)]],
    "a dash": [[(61, 140), (207, 151)]],
    "a tap": [[(150, 150)]],
    "a 7 and a stray dot": [[(60, 60), (110, 60), (80, 140)], [(262, 262), (264, 263)]],
    "a 7 and a speck": [[(60, 60), (170, 60), (120, 200)], [(258, 262)]],
}


@functools.cache
def network(*hidden):
    """Random weights and biases that half precision holds exactly, by default as many as there may be."""
    params = mlp.init(
        jax.random.key(0),
        (784, *(hidden or (302, 198)), 10),
        weights=wide,
        biases=jax.nn.initializers.normal(0.1),
        dtype=jnp.float16,
    )
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)


def read(image):
    """What each neuron of the first layer adds to the weighted input of the largest output, and the outputs."""
    (w, b), *others = network()
    first = activations.relu(w @ image + b)
    logits = functools.partial(mlp.logits, tuple(others), hidden=activations.relu)
    z, pull = jax.vjp(logits, first)
    (slopes,) = pull(jax.nn.one_hot(z.argmax(), 10))
    return np.asarray(first * slopes), np.asarray(activations.softmax(z))


# The file


def test_the_page_is_small_and_needs_nothing_else():
    text = page.html(network(), SURE)
    assert len(text.encode()) < 1_000_000
    assert not re.search(r"https?:|@import|url\(|<script[^>]* src", text)
    assert re.findall(r'<link[^>]* href="(.*?)"', text) == ["data:,"]


def test_the_constants_are_those_of_pictures():
    text = page.html(network(12), SURE)
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', text).group(1))
    del data["parameters"]
    names = ("side", "fit", "faint", "strong", "beside")
    constants = {name: getattr(pictures, name.upper()) for name in names}
    assert data == {"sizes": [784, 12, 10], "sure": SURE, **constants}


SIZES = r"params must be a network \[784, ..., 10\] of up to 300,000 parameters, got "


def zeros(*sizes):
    layers = [(np.zeros((n, m), np.float32), np.zeros(n, np.float32)) for m, n in itertools.pairwise(sizes)]
    return tuple(itertools.starmap(mlp.Layer, layers))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("params", "sure", "message"),
    [
        (zeros(784, 376, 200, 10), SURE, SIZES + r"\[784, 376, 200, 10\]"),
        (zeros(784, 10), SURE, SIZES),
        (zeros(784, 30, 9), SURE, SIZES),
        (
            jax.tree.map(lambda a: a - np.inf, zeros(784, 3, 10)),
            SURE,
            "params must be finite and at most 65504 in size",
        ),
        (jax.tree.map(lambda a: a + 1e5, zeros(784, 3, 10)), SURE, "params must be finite and at most 65504 in size"),
        (zeros(784, 3, 10), -0.1, "sure must be from 0 to 1, got -0.1"),
        (zeros(784, 3, 10), np.nan, "sure must be from 0 to 1, got nan"),
    ],
)
def test_a_page_that_cannot_be(params, sure, message):
    with pytest.raises(ValueError, match=message):
        page.html(params, sure)


# In a browser


class Paper(Tab):
    """The page, its canvas and its network."""

    def __init__(self, browser, path, **settings):
        super().__init__(browser, path, page.html(network(), SURE), **settings)

    def at(self, points):
        """Where these points of the paper are in the window."""
        box = self.page.locator("#paper").bounding_box()
        return [(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280) for x, y in points]

    def draw(self, strokes):
        for stroke in strokes:
            self.mouse(*self.at(stroke))

    def canvas(self):
        return self.pixels("paper", 280)

    def pixels(self, name, side):
        """The upper left pixels of the canvas with this id, [side, side, 4]."""
        text = self.page.evaluate(
            """([name, side]) => {
                const {data} = document.getElementById(name).getContext("2d").getImageData(0, 0, side, side);
                return btoa(Array.from(data, value => String.fromCharCode(value)).join(""));
            }""",
            [name, side],
        )
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(side, side, 4)

    def reader(self):
        """The image and the outputs, or None for each."""
        found = self.page.evaluate("() => [reader.image, reader.outputs].map(values => values && Array.from(values))")
        return tuple(values if values is None else np.array(values, np.float32) for values in found)

    def texts(self, selector):
        return [text for text in self.page.locator(selector).all_text_contents() if text]

    def empty(self):
        numbers = [*self.texts(".number"), *self.texts("#answer")]
        unread = all(values is None for values in self.reader())
        return unread and not numbers and self.page.locator("#hint").is_visible()


@pytest.fixture(params=itertools.product((390, 1280), ("light", "dark")), ids=lambda both: "{}-{}".format(*both))
def tab(request, browser, tmp_path):
    width, scheme = request.param
    tab = Paper(browser, tmp_path / "page.html", viewport={"width": width, "height": 844}, color_scheme=scheme)
    yield tab
    tab.check()
    tab.context.close()


@pytest.mark.slow
def test_the_page_reads_as_jnn_does(tab):
    """The image and the outputs to 1e-3, and what it shows of them, while one digit after another is drawn."""
    answers = set()
    for name, strokes in STROKES.items():
        assert tab.empty(), name
        tab.draw(strokes)
        image, outputs = tab.reader()
        expected = pictures.normalise(tab.canvas())
        np.testing.assert_allclose(image, expected, atol=1e-3, err_msg=name)
        adds, probabilities = read(expected)
        np.testing.assert_allclose(outputs, probabilities, atol=1e-3, err_msg=name)

        answer = probabilities.argmax()
        answers.add(answer if probabilities[answer] >= SURE else None)
        assert tab.texts("#answer") == [str(answer) if probabilities[answer] >= SURE else "uncertain"]
        shares = [int(text.removesuffix(" %")) for text in tab.texts("#outputs .number")]
        np.testing.assert_allclose(shares, 100 * probabilities, atol=0.7)
        most = sorted(adds[np.argsort(-np.abs(adds))[:12]], reverse=True)
        shown = [float(text.replace("\N{MINUS SIGN}", "-")) for text in tab.texts("#deciding .number")]
        np.testing.assert_allclose(shown, most, atol=0.02)

        tab.press("Clear")
    assert None in answers
    assert len(answers) > 2


@pytest.mark.slow
def test_undo_and_escape(small):
    first, second = STROKES["4"]
    small.draw([first])
    image, _ = small.reader()
    for key in ("Undo", "Control+z", "Meta+z"):
        small.draw([second])
        assert not np.array_equal(small.reader()[0], image)
        small.press(key) if key == "Undo" else small.page.keyboard.press(key)
        small.wait()
        assert np.array_equal(small.reader()[0], image), key
    small.page.keyboard.press("Escape")
    small.wait()
    assert small.empty()


@pytest.mark.slow
def test_a_finger_draws(browser, tmp_path):
    """What a mouse draws, also upwards, which scrolls a page elsewhere."""
    upwards = [stroke[::-1] for stroke in STROKES["4"]]
    tab = Paper(browser, tmp_path / "page.html", viewport={"width": 390, "height": 600}, has_touch=True, is_mobile=True)
    for stroke in upwards:
        tab.finger(*tab.at(stroke))
    image, outputs = tab.reader()
    np.testing.assert_allclose(image, pictures.normalise(tab.canvas()), atol=1e-3)
    np.testing.assert_allclose(outputs, read(image)[1], atol=1e-3)
    assert tab.page.evaluate("() => scrollY") == 0
    assert tab.overflow() <= 0
    tab.page.get_by_role("button", name="Clear").tap()
    tab.page.locator("#hint").wait_for(timeout=5_000)  # a tap becomes a click some time later
    assert tab.empty()
    tab.draw(upwards)
    np.testing.assert_allclose(tab.reader()[0], image, atol=0.02)
    assert not tab.errors
    tab.context.close()


@pytest.fixture
def small(browser, tmp_path):
    """The page in a small window, with light colours."""
    tab = Paper(browser, tmp_path / "page.html", viewport={"width": 375, "height": 548}, color_scheme="light")
    yield tab
    assert not tab.errors
    tab.context.close()


@pytest.mark.slow
def test_the_keyboard_draws(small):
    """A stroke of 120 pixels downwards, which a mouse draws likewise."""
    small.page.focus("#paper")
    for key in ("ArrowRight", "Space", *["ArrowDown"] * 12, "Space", "ArrowLeft"):
        small.page.keyboard.press(key)
    small.wait()
    drawn = small.canvas()
    assert small.page.locator("#nib").is_visible()
    small.page.keyboard.press("Escape")
    small.draw([[(150, 60), (150, 180)]])
    assert np.abs(small.canvas().astype(int) - drawn).mean() < 1


@pytest.mark.slow
def test_a_pen_draws_beside_a_resting_palm(small):
    small.page.evaluate(
        """() => {
            const paper = document.getElementById("paper"), box = paper.getBoundingClientRect();
            paper.setPointerCapture = () => {};
            const send = (type, pointerId, pointerType, x, y) => paper.dispatchEvent(new PointerEvent(
                type, {pointerId, pointerType, clientX: box.x + x, clientY: box.y + y}));
            send("pointerdown", 1, "touch", 150, 150);
            send("pointerdown", 2, "pen", 40, 40);
            send("pointermove", 2, "pen", 40, 90);
            send("pointermove", 1, "touch", 160, 150);
            send("pointerup", 2, "pen", 40, 90);
        }"""
    )
    small.wait()
    rows, columns = np.nonzero(small.canvas()[..., 0] < 128)
    assert np.ptp(rows) > np.ptp(columns) > 0
    assert columns.max() < 140


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height", "seen"), [(375, 548, "#answer"), (667, 375, "#paper"), (932, 430, "#paper")]
)
def test_a_phone_shows_without_scrolling(browser, tmp_path, width, height, seen):
    """The answer where it is held upright, the whole paper where it is on its side."""
    tab = Paper(browser, tmp_path / "page.html", viewport={"width": width, "height": height})
    box = tab.page.locator(seen).bounding_box()
    assert box["y"] + box["height"] < height
    paper = tab.page.locator("#paper").bounding_box()
    assert paper["width"] == pytest.approx(paper["height"])
    tab.check()
    tab.context.close()


@pytest.mark.slow
def test_without_script_the_page_says_what_it_needs(browser, tmp_path):
    tab = Paper(browser, tmp_path / "page.html", java_script_enabled=False)
    assert "This page needs JavaScript" in tab.page.inner_text("body")
    assert not tab.page.locator("#hint").is_visible()
    tab.context.close()


@pytest.mark.slow
def test_forced_colours_show_the_bars(browser, tmp_path):
    tab = Paper(browser, tmp_path / "page.html", forced_colors="active")
    tab.draw(STROKES["1"])
    colours = [
        tab.page.eval_on_selector(selector, "element => getComputedStyle(element).backgroundColor")
        for selector in ("#outputs .bar", "#outputs .track")
    ]
    assert colours[0] != colours[1]
    tab.context.close()


@pytest.mark.slow
def test_buttons_have_a_border_that_is_seen(tab):
    """The contrast of a border with the page is at least 3 (WCAG 1.4.11)."""
    colours = tab.page.evaluate(
        """() => [getComputedStyle(document.getElementById("undo")).borderColor,
                  getComputedStyle(document.body).backgroundColor]"""
    )
    assert contrast(*[[int(part) for part in re.findall(r"\d+", colour)[:3]] for colour in colours]) >= 3


@pytest.mark.slow
def test_what_is_drawn_beside_the_paper_is_not_read(tab):
    tab.draw([[(140, -40), (140, 100)]])
    assert tab.empty()


@pytest.mark.slow
def test_dark_and_light_differ(browser, tmp_path):
    """Also when the scheme changes while the page is open: the pictures of the neurons are drawn again."""
    tab = Paper(browser, tmp_path / "page.html", color_scheme="light")
    seen = []
    for scheme in ("light", "dark", "light"):
        tab.page.emulate_media(color_scheme=scheme)
        tab.wait()
        seen.append(tab.pixels("all", 28)[..., :3])
    assert np.array_equal(seen[0], seen[2])
    assert seen[0].mean() > 128 > seen[1].mean()
    tab.context.close()
