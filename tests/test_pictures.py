"""From a picture to what MNIST holds: the same digit whatever it is written on, with and by, and wherever it stands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from experiments.read import specimens
from jnn import data, pictures


def page(height=240, width=320):
    return Image.new("L", (width, height), 255)


def write(paper, digit, *, at=(90, 60), size=110, pen=14, rng=None):
    """The digit in black, its unit square with this corner and height."""
    draw = ImageDraw.Draw(paper)
    for stroke in specimens.drawn(digit, rng):
        points = [tuple(p) for p in np.array(at) + stroke * (0.7 * size, size)]
        draw.line(points, 0, pen, joint="curve")
        for x, y in points:
            draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], 0)
    return paper


def picture(digit, **options):
    return np.asarray(write(page(), digit, **options))


def root_mean_square(a):
    return float(np.sqrt(np.mean(np.square(a))))


# What MNIST holds


@pytest.mark.mnist
def test_mnists_own_images_come_back():
    xs = np.asarray(data.mnist().test.xs[:100])
    away = [root_mean_square(pictures.normalise(x.reshape(28, 28)) - x) for x in xs]
    assert np.median(away) < 0.01
    assert np.quantile(away, 0.9) < 0.03


@pytest.mark.parametrize("digit", range(10))
def test_what_is_normalised_fits_the_square_and_is_centred_as_mnist_is(digit):
    image = pictures.normalise(picture(digit)).reshape(28, 28)
    sides = [np.ptp(np.flatnonzero(image.any(axis=axis))) + 1 for axis in (0, 1)]
    assert 20 <= max(sides) <= 21
    assert (image.min(), image.max()) == (0, 1)
    middle = [ndimage.center_of_mass(image)[axis] + 0.5 for axis in (0, 1)]
    assert all(14 <= m <= 15 for m in middle)
    again = pictures.normalise(image)
    assert root_mean_square(again - image.ravel()) < 0.03


def test_reduced_pixels_are_means_over_their_areas():
    """A box of 60 by 33 pixels is reduced by three, so each pixel is the mean of nine."""
    rng = np.random.default_rng(0)
    ink = np.full((60, 33), 255)
    ink[10:50, 6:27] = rng.integers(140, 256, (40, 21))
    paper = np.zeros((200, 240), np.uint8)
    paper[70:130, 50:83] = ink
    image = pictures.normalise(paper).reshape(28, 28)
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    found = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    full = np.median(ink)
    means = np.minimum(1, ink / full).reshape(20, 3, 11, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found, means / means.max(), atol=1e-5)


def test_thin_strokes_survive():
    image = pictures.normalise(np.asarray(write(page(1200, 1200), 3, at=(200, 100), size=1000, pen=4)))
    assert np.sum(image > 0.3) > 30
    _, pieces = ndimage.label(image.reshape(28, 28) > 0.1, np.ones((3, 3)))
    assert pieces == 1


# Whatever it is written on


def on_white(a):
    return np.stack([np.zeros_like(a), 255 - a], axis=-1)


KINDS = {
    "float": lambda a: a / 255,
    "float of bytes": lambda a: a.astype(np.float32),
    "int64": lambda a: a.astype(np.int64),
    "uint16": lambda a: a.astype(np.uint16) * 257,
    "light on dark": lambda a: 255 - a,
    "grey with one channel": lambda a: a[..., None],
    "grey and alpha": on_white,
    "RGB": lambda a: np.stack([a] * 3, axis=-1),
    "RGBA": lambda a: np.concatenate([np.stack([0 * a] * 3, axis=-1), 255 - a[..., None]], axis=-1),
    "opaque RGBA": lambda a: np.concatenate([np.stack([a] * 3, axis=-1), 0 * a[..., None] + 255], axis=-1),
    "white ink on nothing": lambda a: np.stack([np.full_like(a, 255), 255 - a], axis=-1),
    "faint": lambda a: (180 + a // 4).astype(np.uint8),
    "columns first in memory": np.asfortranarray,
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_picture_gives_the_same(kind):
    a = picture(4)
    assert root_mean_square(pictures.normalise(KINDS[kind](a)) - pictures.normalise(a)) < 0.01


def test_black_and_white():
    a = picture(4)
    assert root_mean_square(pictures.normalise(a > 127) - pictures.normalise(a)) < 0.05


def test_colours_count_by_luminance():
    """Green is the brightest of the three: blue on green is dark on light, and green on blue light on dark."""
    a = picture(4) > 127
    zero = np.zeros(a.shape)
    for first, second in ((a, ~a), (~a, a)):
        colours = np.stack([zero, first, second], axis=-1)
        assert root_mean_square(pictures.normalise(colours) - pictures.normalise(a)) < 0.01


@pytest.mark.parametrize("dark", [True, False])
def test_uneven_light_is_taken_out(dark):
    """Where the light falls to a half across the picture, less than a tenth of it is left."""
    reflected = 0.2 + 0.7 * picture(8) / 255 if dark else 0.9 - 0.7 * picture(8) / 255
    y, x = np.linspace(0, 1, 240)[:, None], np.linspace(0, 1, 320)
    light = 1 - 0.2 * y - 0.3 * x**2
    even, uneven = (pictures.ink(a) for a in (reflected, reflected * light))
    assert np.abs(uneven - even)[even == 0].max() < 0.1
    assert root_mean_square(pictures.normalise(reflected * light) - pictures.normalise(reflected)) < 0.05


def row_of_four(height=300, width=700, *, at=(50, 70), apart=160, **options):
    """A sheet with 3, 1, 4 and 0 in one line."""
    paper = page(height, width)
    for i, digit in enumerate((3, 1, 4, 0)):
        write(paper, digit, at=(at[0] + apart * i, at[1]), **({"size": 110, "pen": 10} | options))
    return paper


EVEN = 0.2 + 0.7 * np.asarray(row_of_four(600, 800, at=(150, 220), pen=11, apart=130)) / 255
X, Y = np.arange(800), np.arange(600)[:, None]


def shadow(beyond, depth, width):
    """The light that a shadow leaves where `beyond`, a distance from its edge in pixels, is below 0."""
    return 1 - depth / (1 + np.exp(np.clip(beyond / width, -50, 50)))


def on_table(top, bottom, left, right):
    table = np.full_like(EVEN, 0.15)
    table[top:bottom, left:right] = EVEN[top:bottom, left:right]
    return table


@pytest.fixture(scope="module")
def expected():
    return pictures.page(EVEN)


def assert_same_digits(found, expected, *, pixels, error):
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=pixels)
    assert root_mean_square(found.xs - expected.xs) < error


# A third or nearly half of the light, with edges of up to 90 pixels that cross the digits.
SHADOWED = {
    "across": EVEN * shadow(X + Y / 3 - 450, 0.35, 15),
    "within": EVEN * shadow(np.hypot(X - 400, Y - 250) - 220, 0.35, 20),
    "a hand": EVEN * shadow(np.hypot((X - 420) * 0.5, Y - 330) - 160, 0.45, 6),
    "a pole": EVEN * shadow(np.abs(X - 300 + Y / 4) - 70, 0.45, 6),
    "a corner": EVEN * shadow(700 - X / 2 - Y, 0.45, 6),
}
TABLES = {"a table around": on_table(60, 540, 60, 740), "a table on one side": on_table(0, 600, 130, 800)}


@pytest.mark.parametrize("what", SHADOWED | TABLES)
def test_shadows_and_a_table_beside_the_paper_are_taken_out(what, expected):
    """The light part of a page is no sheet."""
    found = pictures.page((SHADOWED | TABLES)[what])
    assert_same_digits(found, expected, pixels=4, error=0.1)
    assert what in TABLES or not found.sheet


def test_a_bar_thicker_than_strokes_is_ink():
    """Nothing is left of it above the envelope that takes shadows out."""
    bar = np.random.default_rng(0).normal(0.9, 0.03, (600, 800))
    bar[:, 300:400] -= 0.6
    assert len(pictures.find(bar)) == 1


@pytest.mark.parametrize(("height", "length"), [(66, 20), (66, 50), (82, 35)])
@pytest.mark.parametrize("width", [9, 15, 27])
def test_a_thick_one_in_a_small_picture_is_ink(height, length, width):
    bar = np.zeros((height, 91), bool)
    bar[(height - length) // 2 :][:length, (91 - width) // 2 :][:, :width] = True
    np.testing.assert_array_equal(pictures.ink(np.where(bar, 0, 255).astype(np.uint8)) > 0.5, bar)


def sheet_on_table(share):
    """The sheet of four digits as `share` of a picture of the same size, and its corner there."""
    height, width = (round(n * share**0.5) for n in EVEN.shape)
    table = np.random.default_rng(0).normal(0.25, 0.01, EVEN.shape)
    small = Image.fromarray(np.uint8(255 * EVEN)).resize((width, height), Image.Resampling.BOX)
    corner = np.array([(600 - height) // 3, (800 - width) // 2])
    table[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = np.asarray(small) / 255
    return table, corner


@pytest.mark.parametrize("share", [0.8, 0.4, 0.15])
def test_a_sheet_on_a_table_is_found(share, expected):
    picture, corner = sheet_on_table(share)
    found = pictures.page(picture)
    assert (expected.sheet, found.sheet) == (False, True)
    np.testing.assert_allclose(found.boxes, expected.boxes * share**0.5 + np.tile(corner, 2), atol=3)
    assert root_mean_square(found.xs - expected.xs) < 0.2


def test_a_page_in_pencil_that_is_half_in_soft_shadow_is_no_sheet():
    """The edge is straight and nine pixels wide; pencil is too pale for writing on both sides to tell."""
    assert not pictures.page((0.6 + EVEN / 3) * shadow(400 - X, 0.48, 2)).sheet


def test_a_table_with_grain_around_a_sheet_is_left_out():
    """The grain counts as writing, so that no sheet is found."""
    picture, _ = sheet_on_table(0.9)
    picture[:8] = picture[-8:] = picture[:, :8] = picture[:, -8:] = 0.05
    picture[:, 3::7] = np.where(picture[:, 3::7] < 0.3, 0.05, picture[:, 3::7])
    found = pictures.page(picture)
    assert (found.sheet, len(found.boxes)) == (False, 4)


def ruled(darkness, *, grid, width=2):
    """Lines across the page that take this fraction of the light that ink takes."""
    lines = Image.new("L", EVEN.shape[::-1])
    draw = ImageDraw.Draw(lines)
    for y in range(20, 600, 45):
        draw.line([(0, y), (800, y + 9)], 255, width)
    for x in range(30, 800 if grid else 0, 45):
        draw.line([(x, 0), (x - 9, 600)], 255, width)
    return np.minimum(EVEN, 0.9 - 0.7 * darkness * np.asarray(lines) / 255)


@pytest.mark.parametrize("grid", [False, True], ids=["lines", "grid"])
@pytest.mark.parametrize("darkness", [0.2, 0.5, 0.7, 1])
def test_printed_lines_are_left_out(darkness, grid, expected):
    assert_same_digits(pictures.digits(ruled(darkness, grid=grid)), expected, pixels=5, error=0.13)


@pytest.mark.bad_input
def test_a_grid_as_dark_and_thick_as_the_strokes_is_refused():
    with pytest.raises(ValueError, match="picture must show digits beside lines as thick as strokes"):
        pictures.digits(ruled(1, grid=True, width=11))


@pytest.mark.parametrize("place", [(200, 100), (204, 197)], ids=["across", "along"])
def test_a_thin_stroke_stays_whole_where_a_line_crosses_it_or_runs_along_it(place):
    """The lines are as dark as the strokes and half as wide."""
    paper = page(400, 400)
    draw = ImageDraw.Draw(paper)
    draw.line([(80, place[1]), place, (200, 320)], 0, 8, joint="curve")
    expected = pictures.find(np.asarray(paper))
    draw.line([(0, 200), (400, 200)], 0, 4)
    np.testing.assert_allclose(pictures.find(np.asarray(paper)), expected, atol=4)


@pytest.mark.parametrize("dark", [True, False])
def test_a_photo_gives_the_image_that_was_put_on_it(dark):
    x = pictures.normalise(picture(5))
    for seed in range(3):
        photo = specimens.photo(x.reshape(28, 28), np.random.default_rng(seed), dark=dark)
        assert root_mean_square(pictures.normalise(photo) - x) < 0.2


@given(
    st.sampled_from([0, 2, 3, 5, 6]),
    st.integers(0, 200),
    st.integers(0, 100),
    st.integers(70, 120),
    st.booleans(),
)
def test_place_size_and_polarity_do_not_matter(digit, x, y, size, dark):
    a = np.asarray(write(page(260, 320), digit, at=(x + 10, y + 15), size=size, pen=size // 8))
    expected = pictures.normalise(picture(digit, size=200, at=(60, 20), pen=25))
    assert root_mean_square(pictures.normalise(a if dark else 255 - a) - expected) < 0.12


def test_small_and_tight_pictures():
    """Without a border, the ink touches all sides and covers a third."""
    a = picture(0, pen=9)
    (box,) = pictures.find(a)
    tight = a[box[0] : box[2], box[1] : box[3]]
    small = np.asarray(Image.fromarray(tight).resize((8, 10), Image.Resampling.BOX))
    whole = pictures.normalise(a)
    assert root_mean_square(pictures.normalise(tight) - whole) < 0.05
    assert root_mean_square(pictures.normalise(255 - tight) - whole) < 0.05
    assert root_mean_square(pictures.normalise(small) - whole) < 0.3


# Several digits


def test_the_digits_of_a_sheet_in_reading_order():
    sheet = specimens.sheet()
    boxes, xs = pictures.digits(sheet)
    assert boxes.shape == (40, 4)
    assert xs.shape == (40, 784)
    np.testing.assert_array_equal(boxes, pictures.find(sheet))
    for line in boxes.reshape(4, 10, 4):
        assert np.all(np.diff(line[:, 1]) > 0)
    tops = boxes.reshape(4, 10, 4)[..., 0]
    assert np.all(tops[:-1].max(axis=1) < tops[1:].min(axis=1))


def test_each_digit_of_several_is_as_if_it_were_alone():
    _, xs = pictures.digits(np.asarray(row_of_four(size=130, pen=14, at=(40, 70))))
    for x, digit in zip(xs, (3, 1, 4, 0), strict=True):
        assert root_mean_square(x - pictures.normalise(picture(digit, size=130))) < 0.02


def test_the_ink_of_a_neighbour_is_not_seen():
    """Two strokes that slant: the box of each reaches into the other's."""
    paper = page(300, 400)
    draw = ImageDraw.Draw(paper)
    for x in (60, 110):
        draw.line([(x + 90, 50), (x, 250)], 0, 16)
    boxes, xs = pictures.digits(np.asarray(paper))
    assert len(boxes) == 2
    assert boxes[0, 3] > boxes[1, 1]
    np.testing.assert_allclose(xs[0], xs[1], atol=0.05)


def test_the_flag_of_a_five_belongs_to_it():
    """A minus between two digits does not."""
    found = []
    for y in (65, 165):
        paper = page(300, 400)
        draw = ImageDraw.Draw(paper)
        draw.line([(100, 70), (100, 140), (150, 160), (150, 220), (90, 230)], 0, 12)
        draw.line([(175, y), (230, y - 5)], 0, 12)
        found.append(len(pictures.find(np.asarray(paper))))
    assert found == [1, 2]


@pytest.mark.parametrize("gap", [4, 25], ids=["a broken stroke", "a bar above"])
def test_parts_of_a_digit_are_joined(gap):
    paper = page(300, 300)
    draw = ImageDraw.Draw(paper)
    draw.line([(100, 80), (180, 80)], 0, 12)
    draw.line([(105, 92 + gap), (100, 150), (170, 160), (175, 230), (100, 240)], 0, 12)
    ((top, left, bottom, right),) = pictures.find(np.asarray(paper))
    assert (top < 80, left < 104, bottom > 240, right > 178) == (True,) * 4


def test_lines_that_slope_are_read_from_the_left():
    paper = page(500, 900)
    for i in range(8):
        for line in range(2):
            write(paper, 2 + line, at=(60 + 100 * i, 60 + 150 * line + 16 * i), size=70, pen=8)
    boxes = pictures.find(np.asarray(paper)).reshape(2, 8, 4)
    assert np.all(np.diff(boxes[..., 1]) > 0)


def test_lines_below_a_large_heading_are_not_joined():
    paper = page(700, 500)
    write(paper, 8, at=(60, 30), size=300, pen=20)
    for line in range(2):
        for i in range(3):
            write(paper, 7, at=(60 + 120 * i, 400 + 130 * line), size=90, pen=9)
    assert len(pictures.find(np.asarray(paper))) == 7


def test_a_stroke_of_one_pixel():
    a = np.full((200, 200), 255, np.uint8)
    a[50:150, 90] = 0
    assert pictures.normalise(a).max() == 1
    assert len(pictures.find(a)) == 1


def test_specks_and_pale_lines_are_paper():
    a = picture(2).copy()
    expected = pictures.normalise(a)
    a[[20, 21, 200, 201, 202], 30:33] = 0
    a[::40] = np.minimum(a[::40], 215)
    assert len(pictures.find(a)) == 1
    assert root_mean_square(pictures.normalise(a) - expected) < 0.05


def marked(paint):
    """The page of four digits with what `paint` draws on it."""
    paper = row_of_four()
    paint(ImageDraw.Draw(paper))
    return pictures.page(np.asarray(paper))


def around(shape, gap):
    def paint(draw):
        for top, left, bottom, right in pictures.find(np.asarray(row_of_four())):
            getattr(draw, shape)([left - gap, top - gap, right + gap, bottom + gap], None, 0, 4)

    return paint


def table(draw):
    for i in range(4):
        draw.rectangle([30 + 160 * i, 40, 190 + 160 * i, 220], None, 0, 4)


MARKS = {
    "an underline": (lambda draw: draw.line([(40, 200), (660, 207)], 0, 6), "lines", 1),
    "boxes": (around("rectangle", 15), "frames", 4),
    "circles": (around("ellipse", 40), "frames", 4),
    "a table": (table, "frames", 1),
    "the holes of a binder": (lambda d: [d.ellipse([8, y, 42, y + 34], 0) for y in (30, 220)], "spots", 2),
}


@pytest.mark.parametrize("what", MARKS)
def test_what_is_no_digit_is_left_out_and_counted(what):
    paint, name, count = MARKS[what]
    expected, found = pictures.page(np.asarray(row_of_four())), marked(paint)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_allclose(found.xs, expected.xs, atol=1e-6)
    assert {key: len(boxes) for key, boxes in found.left_out.items() if len(boxes)} == {name: count}


def test_small_digits_beside_a_large_one_are_kept():
    paper = page(700, 1000)
    for x, size in ((40, 560), (600, 150), (760, 70), (860, 45)):
        write(paper, 4, at=(x, 650 - size), size=size, pen=max(4, size // 10))
    assert len(pictures.find(np.asarray(paper))) == 4


def test_the_lines_of_a_page():
    paper = row_of_four(500)
    for i, digit in enumerate((2, 7)):
        write(paper, digit, at=(50 + 160 * i, 300), size=110, pen=10)
    assert pictures.page(np.asarray(paper)).lines.tolist() == [0, 0, 0, 0, 1, 1]


def test_large_pictures_are_reduced_and_boxes_are_in_their_pixels():
    paper = page(2400, 3400)
    for i, digit in enumerate((6, 9)):
        write(paper, digit, at=(500 + 1300 * i, 600), size=1000, pen=120)
    large = np.asarray(paper)
    small = np.asarray(paper.resize((850, 600), Image.Resampling.BOX))
    found, expected = pictures.digits(large), pictures.digits(small)
    assert pictures.ink(large).shape == (800, 1133)
    assert np.abs(found.boxes - 4 * expected.boxes).max() <= 8
    assert root_mean_square(found.xs - expected.xs) < 0.05


# Bad input


BLANK = np.full((60, 80), 255, np.uint8)
DOTS = np.full((400, 400), 255, np.uint8)
DOTS[::8, ::8] = 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (np.zeros(784), ValueError, r"must have shape \[H, W\] or \[H, W, channels\].*got \(784,\)"),
        (np.zeros((3, 28, 28)), ValueError, r"1 to 4 channels, got \(3, 28, 28\)"),
        (np.zeros((0, 5)), ValueError, r"at least 2x2 pixels .*got \(0, 5\)"),
        (np.zeros((1, 1)), ValueError, r"at least 2x2 pixels .*got \(1, 1\)"),
        ([[0.0, 1.0], [1.0, 0.0]], TypeError, "must be an array, got a list"),
        (np.zeros((9, 9), complex), TypeError, "real numbers, got dtype complex128"),
        (np.full((9, 9), "a"), TypeError, "real numbers, got dtype <U1"),
        (np.full((9, 9), np.nan), ValueError, "finite pixels, got NaN or infinity"),
        (BLANK, ValueError, "must show ink on paper: its contrast must be above 0.04 of white, got 0"),
        (np.zeros((500, 2), np.uint16), ValueError, "must show ink on paper"),
        (np.random.default_rng(0).integers(256, size=(200, 200)), ValueError, "must show ink on paper"),
        (DOTS, ValueError, "at most 1000 separate strokes, got 2500"),
    ],
)
def test_bad_input(bad, error, says):
    for f in (pictures.normalise, pictures.digits, pictures.find):
        with pytest.raises(error, match=says):
            f(bad)
