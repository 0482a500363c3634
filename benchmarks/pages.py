"""Pages of handwritten digits as people photograph them: what is read, what is wrong, and the seconds for each page.

The digits are test images of MNIST, which the network that reads them was not trained on. A page has `ROWS` lines of
`COLUMNS` digits; shadows, tables, ruled lines and frames are drawn here. An answer belongs to the digit that its box
overlaps, and is extra where there is none. A page is lost where less than half of its digits are read and nothing was
reported; a page that is refused with a message counts as refused.
"""

import functools
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks import timing
from experiments import read
from jnn import data

PACKAGES = ("scipy", "pillow")

HEIGHT, WIDTH = 1000, 1400
"""Pixels of a picture."""

ROWS, COLUMNS = 4, 6
"""Lines of digits on a page, and digits in a line."""

PAPER = np.array([238, 236, 228]) / 255
PEN, PENCIL, CHALK, BLUE = (
    np.array(rgb) / 255 for rgb in ((40, 45, 90), (165, 165, 168), (225, 228, 225), (90, 140, 220))
)
BOARD = np.array([45, 60, 55]) / 255


class Page(NamedTuple):
    """A picture, and the digits in it."""

    picture: UInt8[np.ndarray, "H W 3"]
    boxes: Float[np.ndarray, "K 4"]
    """Top, left, bottom and right of each."""
    labels: Int[np.ndarray, " K"]


class Flat(NamedTuple):
    """A page before it is photographed: what each pixel reflects, where the ink is, and the digits."""

    paper: Float[np.ndarray, "H W 3"]
    ink: Float[np.ndarray, "H W"]
    boxes: Float[np.ndarray, "K 4"]


Rng = np.random.Generator


# The page


def written(xs: Float[np.ndarray, "K 784"], rng: Rng, sizes: tuple[float, float] = (130, 190)) -> Flat:
    """The digits in lines, each of any size between two and somewhere in its cell."""
    ink, boxes = np.zeros((HEIGHT, WIDTH), np.float32), []
    margin, cell = 40, ((HEIGHT - 80) / ROWS, (WIDTH - 80) / COLUMNS)
    for i, x in enumerate(xs):
        size = np.exp(rng.uniform(*np.log(sizes)))
        digit = np.clip(np.asarray(ndimage.zoom(x.reshape(28, 28), size / 28, order=3)), 0, 1)
        at = np.array(divmod(i, COLUMNS)) * cell + margin
        spare = np.subtract(cell, digit.shape)
        y, x0 = (at + spare / 2 + rng.uniform(-0.4, 0.4, 2) * np.minimum(spare, 30)).round().astype(int)
        region = ink[y : y + digit.shape[0], x0 : x0 + digit.shape[1]]
        np.maximum(region, digit, out=region)
        rows, columns = (np.flatnonzero((digit > 0.25).any(axis=axis)) for axis in (1, 0))
        boxes.append((y + rows[0], x0 + columns[0], y + rows[-1] + 1, x0 + columns[-1] + 1))
    return Flat(np.broadcast_to(PAPER, (HEIGHT, WIDTH, 3)), ink, np.array(boxes, float))


def with_lines(flat: Flat, strength: float, rng: Rng, *, grid: bool, ink: np.ndarray = PEN) -> Flat:
    """Printed blue lines, or squares, that take a fraction of the light that the ink takes."""
    step, first, wide = (int(rng.integers(*bounds)) for bounds in ((45, 90), (5, 40), (2, 4)))
    lines = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(lines)
    for y in range(first, HEIGHT, step):
        draw.line([(0, y), (WIDTH, y)], 255, wide)
    for x in range(first, WIDTH if grid else 0, step):
        draw.line([(x, 0), (x, HEIGHT)], 255, wide)
    taken = strength * float(np.mean(1 - ink / PAPER)) * (1 - BLUE) / np.mean(1 - BLUE)
    return flat._replace(
        paper=flat.paper * (1 - np.clip(taken, 0, 1) * (np.asarray(lines, np.float32)[..., None] / 255))
    )


def underlined(flat: Flat, rng: Rng) -> Flat:
    """Each line of digits underlined, with a slight slope."""
    strokes = Image.new("L", (WIDTH, HEIGHT))
    for row in flat.boxes.reshape(ROWS, COLUMNS, 4):
        slope, y = rng.uniform(0, 8), row[:, 2].max() + 8 + rng.uniform(0, 8)
        ends = [(row[0, 1] - 10, y + slope), (row[-1, 3] + 10, y)]
        ImageDraw.Draw(strokes).line(ends, 255, int(rng.integers(4, 9)))
    return flat._replace(ink=np.maximum(flat.ink, np.asarray(strokes, np.float32) / 255))


def boxed(flat: Flat, rng: Rng) -> Flat:
    """Each digit in a rectangle or an ellipse, or all in a table, none touched."""
    strokes, shape, wide = Image.new("L", (WIDTH, HEIGHT)), int(rng.integers(3)), int(rng.integers(3, 7))
    draw, cell, gap = ImageDraw.Draw(strokes), np.array([(WIDTH - 80) / COLUMNS, (HEIGHT - 80) / ROWS]), 12 + wide
    for i, box in enumerate(flat.boxes):
        low, high = box[1::-1], box[:1:-1]  # (x, y)
        if shape == 1:
            gaps = (high - low) * 0.25 + gap
            draw.ellipse([*(low - gaps), *(high + gaps)], None, 255, wide)
        else:
            corner = 40 + np.array(divmod(i, COLUMNS))[::-1] * cell
            sides = [*(low - gap), *(high + gap)] if shape == 0 else [*corner, *(corner + cell)]
            draw.rectangle(sides, None, 255, wide)
    return flat._replace(ink=np.maximum(flat.ink, np.asarray(strokes, np.float32) / 255))


# The photo


def photo(
    colours: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: Rng, light: np.ndarray | float, share: float
) -> Page:
    """The page from above, nearly straight, in light that falls off a little: `share` of the picture is page."""
    table = texture(rng) if share < 1 else np.broadcast_to(colours[0, 0], colours.shape)
    seen, boxes = _placed(colours, boxes, table, share, rng)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    falls = 1 - rng.uniform(0, 0.15) * (1 + x * rng.choice([-1, 1])) / 2 - rng.uniform(0, 0.1) * y**2
    seen = ndimage.gaussian_filter(seen * (falls * light)[..., None], (0.8, 0.8, 0))
    noisy = 255 * seen + rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(file, "JPEG", quality=85)
    return Page(np.asarray(Image.open(file)), boxes, labels)


def _placed(
    colours: np.ndarray, boxes: np.ndarray, table: np.ndarray, share: float, rng: Rng
) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "K 4"]]:
    """The page on the table, reduced or enlarged, turned a little and moved; and where the boxes come to lie."""
    scale, angle = np.sqrt(share), np.deg2rad(rng.uniform(-5, 5) if share < 0.9 else rng.uniform(-1.5, 1.5))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    middle = np.array([HEIGHT, WIDTH]) / 2
    moved = middle + rng.uniform(-0.8, 0.8, 2) * np.maximum(0, middle - np.abs(turn) @ middle)
    back = np.linalg.inv(turn)
    shift = middle - back @ moved  # (row, column) of the page for that of the picture
    image = Image.fromarray(np.uint8(np.clip(255 * colours, 0, 255))).convert("RGBA")
    if scale < 1:  # averaged, as a camera does
        image = image.resize((round(WIDTH * scale), round(HEIGHT * scale)), Image.Resampling.BOX)
        back, shift = back * scale, shift * scale
    coefficients = (back[1, 1], back[1, 0], shift[1], back[0, 1], back[0, 0], shift[0])
    image = image.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    seen = np.asarray(image, np.float32) / 255
    corners = boxes.reshape(-1, 2, 2)  # [K, (top left, bottom right), (row, column)]
    sides = np.diff(corners, axis=1)[:, 0] * scale
    centres = (corners.mean(axis=1) - middle) @ turn.T + moved
    placed = seen[..., :3] * seen[..., 3:] + table * (1 - seen[..., 3:])
    return placed, np.hstack([centres - sides / 2, centres + sides / 2])


def texture(rng: Rng) -> Float[np.ndarray, "H W 3"]:
    """A table of wood or of plain colour, darker than paper."""
    colour = rng.uniform(0.1, 0.45) * np.array([1.15, 1, rng.uniform(0.6, 1)])
    streaks = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), (1.5, 40))
    return colour * (1 + rng.choice([0.0, 0.1]) * (streaks / streaks.std())[..., None])


def shadow(softest: float, rng: Rng) -> Float[np.ndarray, "H W"]:
    """A third to a half of the light is taken by a hand, a pole, or whoever takes the photo.

    Its edge is four times as wide as `softest` pixels, or down to half as wide.
    """
    soft = rng.uniform(softest / 2, softest)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    across, down = rng.uniform(0.3, 0.7) * WIDTH, rng.uniform(0.3, 0.7) * HEIGHT
    inside = (
        lambda: 260 - np.hypot((x - across) * 0.6, y - down * 1.3),
        lambda: 110 - np.abs(x - across + (y - down) * rng.uniform(-0.4, 0.4)),
        lambda: (x - across) * rng.choice([-1, 1]) + (y - down) * rng.uniform(-0.6, 0.6),
    )[rng.integers(3)]()
    return 1 - rng.uniform(0.3, 0.5) / (1 + np.exp(np.clip(-inside / soft, -50, 50)))


Draw = Callable[[np.ndarray, np.ndarray, Rng], Page]
"""Makes a page of the images of digits and their labels."""


def drawn(
    change: Callable[[Flat, Rng], Flat] = lambda flat, _: flat,
    *,
    ink: np.ndarray = PEN,
    sizes: tuple[float, float] = (130, 190),
    shadow: Callable[[Rng], Any] = lambda _: 1.0,
    share: float = 1.1,
) -> Draw:
    """Pages whose flat page is changed, with ink of this colour, in the light that `shadow` leaves."""

    def draw(xs: np.ndarray, labels: np.ndarray, rng: Rng) -> Page:
        light = shadow(rng)
        flat = change(written(xs, rng, sizes), rng)
        colours = flat.paper + flat.ink[..., None] * (ink - flat.paper)
        return photo(colours, flat.boxes, labels, rng, light, share)

    return draw


def ruled(strength: float, *, grid: bool, ink: np.ndarray = PEN) -> Draw:
    return drawn(lambda flat, rng: with_lines(flat, strength, rng, grid=grid, ink=ink), ink=ink)


def blackboard(flat: Flat, _: Rng) -> Flat:
    return flat._replace(paper=np.broadcast_to(BOARD, flat.paper.shape))


def turned(xs: np.ndarray, labels: np.ndarray, rng: Rng) -> Page:
    page, turns = drawn()(xs, labels, rng), int(rng.integers(1, 4))
    return Page(np.rot90(page.picture, turns), turned_boxes(page.boxes, page.picture.shape, turns), labels)


def turned_boxes(boxes: Float[np.ndarray, "K 4"], shape: tuple[int, ...], turns: int) -> Float[np.ndarray, "K 4"]:
    """The boxes in a picture of this shape after as many quarter turns of it, as `numpy.rot90` turns."""
    (height, width), (top, left, bottom, right) = shape[:2], boxes.T
    for _ in range(turns % 4):
        top, left, bottom, right = width - right, top, width - left, bottom
        height, width = width, height
    return np.stack([top, left, bottom, right], axis=1)


KINDS: Mapping[str, Draw] = {
    "plain": drawn(),
    "blackboard": drawn(blackboard, ink=CHALK),
    "pencil": drawn(ink=PENCIL),
    "soft shadow": drawn(shadow=functools.partial(shadow, 30)),
    "hard shadow": drawn(shadow=functools.partial(shadow, 6)),
    "pencil in shadow": drawn(ink=PENCIL, shadow=functools.partial(shadow, 30)),
    **{f"table {share}": drawn(share=share) for share in (0.92, 0.8, 0.65, 0.5, 0.3, 0.15)},
    **{f"lines {strength}": ruled(strength, grid=False) for strength in (0.25, 0.5, 0.75)},
    **{f"grid {strength}": ruled(strength, grid=True) for strength in (0.25, 0.5, 0.75)},
    "pencil on lines": ruled(0.5, grid=False, ink=PENCIL),
    "underlined": drawn(underlined),
    "boxed": drawn(boxed, sizes=(100, 145)),
    "turned": turned,
    "mixed sizes": drawn(sizes=(40, 200)),
    "lines 1.0": ruled(1.0, grid=False),
    "grid 1.0": ruled(1.0, grid=True),
}


# What is read


@dataclass(frozen=True)
class Config:
    """Number of pages, and their kinds."""

    quick: ClassVar[Mapping[str, Any]] = {"pages": 1, "kinds": ("plain", "turned")}

    pages: int = 24
    """Pages of each kind."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """The kinds of pages, by default all."""


class Score(NamedTuple):
    """What was read of some pages."""

    digits: int = 0
    read: int = 0
    wrong: int = 0
    """Sure answers that are wrong, extra ones among them."""
    extra: int = 0
    """Answers where there is no digit."""
    uncertain: int = 0
    lost: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return (
            f"{100 * self.read / max(1, self.digits):.1f} % of {self.digits} digits read, {self.wrong} sure but wrong, "
            f"{self.extra} extra, {self.uncertain} uncertain, {self.lost} pages lost, {self.refused} refused"
        )


def score(page: Page, network: Any, reading: Any) -> Score:
    """What was read of one page, or of one that is refused, where the reading is None."""
    if reading is None:
        return Score(digits=len(page.labels), refused=1)
    boxes = turned_boxes(page.boxes, page.picture.shape, reading.turns)
    digit = belonging(np.asarray(reading.boxes, float), boxes)
    answer = reading.outputs.argmax(axis=1)
    right = (digit >= 0) & (answer == page.labels[digit])
    sure = np.array(["?" not in text for text in read.answers(reading, network.sure)])
    count = len(set(digit[right]))
    return Score(
        digits=len(page.labels),
        read=count,
        wrong=int(np.sum(sure & ~right)),
        extra=int(np.sum(digit < 0)),
        uncertain=int(np.sum(~sure)),
        lost=int(2 * count < len(page.labels)),
    )


def belonging(boxes: Float[np.ndarray, "N 4"], digits: Float[np.ndarray, "K 4"]) -> Int[np.ndarray, " N"]:
    """For each box the digit that it overlaps by more than a third of both together, or -1."""
    low, high = np.maximum(boxes[:, None, :2], digits[:, :2]), np.minimum(boxes[:, None, 2:], digits[:, 2:])
    both = np.prod(np.maximum(0, high - low), axis=-1)
    one, other = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, digits))
    overlap = both / (one[:, None] + other - both)
    return np.where(overlap.max(axis=1) > 1 / 3, overlap.argmax(axis=1), -1)


def pages(kind: str, count: int) -> Iterator[Page]:
    """Pages of one kind: the same for the same count or less."""
    xs, labels = map(np.asarray, data.mnist().test)
    for i in range(count):
        rng = np.random.default_rng([list(KINDS).index(kind), i])
        chosen = rng.choice(len(xs), ROWS * COLUMNS, replace=False)
        yield KINDS[kind](xs[chosen], labels[chosen], rng)


def measure(config: Config) -> Iterator[timing.Table]:
    """Yield a table for each kind: seconds for each page, and what was read."""
    if unknown := sorted(set(config.kinds) - set(KINDS)):
        raise ValueError(f"kinds must be among {', '.join(KINDS)}, got {', '.join(unknown)}")
    network = read.load_network()
    for page in pages("plain", 1):  # compiled
        read.read(network, "", page.picture)
    for kind in config.kinds:
        seconds: dict[str, list[float]] = {"a page": [], "processor time": []}
        scores = []
        for i, page in enumerate(pages(kind, config.pages)):
            start, worked = time.perf_counter(), time.process_time()
            try:
                reading = read.read(network, f"{kind} {i}", page.picture)
            except ValueError:
                reading = None
            seconds["a page"].append(time.perf_counter() - start)
            seconds["processor time"].append(time.process_time() - worked)
            scores.append(score(page, network, reading))
        total = Score(*np.sum(scores, axis=0).tolist())
        yield timing.Table(kind, seconds, {"a page": str(total)})


if __name__ == "__main__":
    sys.exit(timing.main(sys.modules[__name__]))
