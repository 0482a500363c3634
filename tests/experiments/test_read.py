"""Reading pictures at the command line: every kind of file, and every kind of mistake."""

import csv
import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from jax import random
from PIL import Image, ImageDraw, ImageFont

from experiments import __main__ as command
from experiments import read
from experiments.chapter_3 import handwriting
from experiments.read import drawing, reader, samples, specimens
from jnn import convert, data, mlp

FILES_OF_A_RUN = ("arrays.npz", "figure.png", "result.json")


@pytest.fixture(scope="module")
def network():
    assert data.READER.stat().st_size < 600_000
    return read.load_network()


@pytest.fixture(scope="module")
def sheet():
    return specimens.sheet()


def run(capsys, tmp_path, *files, flags=()):
    """The exit code, and the lines of stdout and of stderr."""
    code = command.main(["read", *map(str, files), "--out", str(tmp_path / "out"), *flags])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err.splitlines()


def save(path, picture, **options):
    Image.fromarray(picture).save(path, **options)
    return path


def test_the_sheet_is_read_and_shown(capsys, tmp_path):
    code, (line, *rest), errors = run(capsys, tmp_path)
    assert (code, errors) == (0, [])
    lines = line.removeprefix(f"{read.SHEET}: ").split("   ")[0].split(" / ")
    assert [text.replace("?", "").replace(" ", "") for text in lines] == ["0123456789"] * 4
    assert len(line.split("   ")[1].split(",")) == 40
    assert rest[-1] == f"see {tmp_path / 'out' / 'read' / 'figure.png'}"
    assert {path.name for path in (tmp_path / "out/read").iterdir()} == {*FILES_OF_A_RUN, "digits.csv"}
    result = json.loads((tmp_path / "out/read/result.json").read_text())
    assert [" ".join(words) for words in result["files"][0]["lines"]] == lines
    assert [answer[0] for answer in result["files"][0]["answers"]] == [*"0123456789"] * 4
    with np.load(tmp_path / "out/read/arrays.npz") as arrays:
        assert arrays["outputs"].shape == (40, 10)
    assert (tmp_path / "out/read/figure.png").stat().st_size > 50_000


def test_the_answer_needs_no_matplotlib():
    code = "import sys; from experiments import read; print('matplotlib' in sys.modules, 'jinja2' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False False\n"


def test_one_line_for_each_file_whatever_the_others_are(capsys, sheet, tmp_path):
    """Good files are answered beside bad ones, and the exit code says that there were some."""
    good = [save(tmp_path / name, sheet[360:500]) for name in ("a.png", "b.png")]
    text = tmp_path / "notes.txt"
    text.write_text("3 1 4")
    code, lines, errors = run(capsys, tmp_path, good[0], text, good[1])
    assert code == 2
    assert [line.split(":")[0] for line in lines[:2]] == [str(path) for path in good]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {text}: is no picture that Pillow reads")
    assert (tmp_path / "out/read/figure.png").exists()


def test_many_digits(network, sheet):
    """More than the figure shows, and a number for which no program was compiled before."""
    reading = read.read(network, "many", np.tile(sheet[350:500], (8, 1, 1)))
    assert len(reading.xs) == 80
    figure = drawing.figure([reading, reading], network.sure)
    assert "the first 60 of 80" in figure.subfigs[0].subfigs[1].axes[0].get_title()


# What is printed


FONT = ImageFont.truetype(str(specimens.fonts()[0]), 100)


def typed(*lines, pitch=80, width=900):
    """Lines of characters at equal distances; a space is a gap of that width."""
    picture = Image.new("L", (width, 60 + 160 * len(lines)), 240)
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate(lines):
        for k, character in enumerate(line):
            draw.text((50 + pitch * k, 30 + 160 * i), character, 40, FONT)
    return np.asarray(picture)


def said(network, picture, **options):
    return read.line(read.read(network, "a", picture, **options), 0).split("   ")[0].replace("?", "")


@pytest.mark.parametrize(
    ("lines", "pitch", "expected"),
    [
        (("1", "234"), 80, "1 / 234"),
        (("12  34",), 80, "12 34"),
        (("1.5",), 60, "1.5"),
        (("1,5",), 60, "1,5"),
        (("-35",), 60, "-35"),
    ],
)
def test_lines_words_and_clear_signs_are_shown(lines, pitch, expected, network):
    assert said(network, typed(*lines, pitch=pitch)) == f"a: {expected}"


def test_a_small_digit_beside_larger_ones_is_no_comma(network):
    picture = Image.new("L", (1300, 700), 240)
    for digit, x, size in (("3", 60, 600), ("1", 560, 200), ("4", 800, 100), ("7", 1000, 75)):
        ImageDraw.Draw(picture).text((x, 640 - size * 1.2), digit, 40, FONT.font_variant(size=size))
    assert "," not in said(network, np.asarray(picture))


def test_a_plus_and_a_times_are_uncertain(network):
    picture = typed("2 7 3").copy()
    picture[85:93, 125:185] = picture[60:120, 151:159] = 40  # +
    image = Image.fromarray(picture)
    for stroke in ([(290, 60), (340, 120)], [(340, 60), (290, 120)]):
        ImageDraw.Draw(image).line(stroke, 40, 8)
    reading = read.read(network, "", np.asarray(image))
    assert [answer[1:] for answer in read.answers(reading, 0)] == ["", "?", "", "?", ""]


@pytest.mark.parametrize(
    ("mark", "uncertain"),
    [
        ((125, 60, 131, 95), ["7", "1?", "7"]),  # a stroke less than half as high
        ((125, 65, 135, 75), ["7?", "7?"]),  # a speck between them
        ((125, 113, 135, 123), ["7", "7"]),  # a point at their foot
    ],
)
def test_what_may_be_a_part_is_uncertain(mark, uncertain, network):
    image = Image.fromarray(typed("7 7", pitch=45))
    ImageDraw.Draw(image).rectangle(mark, 40)
    assert read.answers(read.read(network, "", np.asarray(image)), network.sure) == uncertain


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_page_is_turned_upright(turns, network):
    page = typed("0123456789", "9876543210")
    reading = read.read(network, "a", np.rot90(page, turns))
    assert read.line(reading, 0).startswith("a: 0123456789 / 9876543210   ")
    assert reading.turns == -turns % 4
    assert ("turned by" in read.line(reading, 0)) == (turns > 0)


def test_turn_is_to_the_right(capsys, tmp_path):
    """It is obeyed where the digits alone do not tell."""
    path = save(tmp_path / "a.png", np.rot90(typed("18")))  # turned to the left by a quarter
    _, lines, _ = run(capsys, tmp_path, path, flags=["--turn", "90"])
    assert lines[0].startswith(f"{path}: 18 ")


def test_a_sheet_on_a_table_is_reported(network):
    table = np.full((700, 1400), 60, np.uint8)
    table[200:580, 300:1200] = typed("0123", "4567")
    assert "a sheet on a darker table" in read.line(read.read(network, "a", table), 0)


def test_digits_whose_answer_a_shift_changes_are_uncertain(monkeypatch, network):
    monkeypatch.setattr(reader, "STEADY", 0.98)
    reading = read.read(network, "a", typed("0123456789"))
    steady = reader._shifted(network, reading.xs, reading.outputs)
    assert np.array_equal(reading.doubtful, steady < reader.STEADY)
    assert steady.max() > reader.STEADY > steady.min()


# Files


@pytest.mark.parametrize("pattern", ["", "pic*"])
def test_folders_and_patterns_stand_for_their_pictures_in_natural_order(pattern, capsys, tmp_path):
    """And the table has a row for each digit."""
    folder = tmp_path / "some, few"
    folder.mkdir()
    (folder / "notes.txt").write_text("") if not pattern else None
    for i, lines in {10: ("4", "10"), 2: ("4", "2"), 1: ("1",)}.items():
        save(folder / f"pic{i}.png", typed(*lines))
    code, lines, errors = run(capsys, tmp_path, folder / pattern)
    assert (code, errors) == (0, [])
    assert [line.split(": ")[0] for line in lines[:3]] == [f"{folder}/pic{i}.png" for i in (1, 2, 10)]
    with (tmp_path / "out/read/digits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] + row["digit"] for row in rows] == ["01", "04", "12", "04", "11", "10"]
    assert [row["name"] for row in rows] == [f"{folder}/pic{i}.png" for i in (1, 2, 2, 10, 10, 10)]
    assert all(0.5 < float(row["probability"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a$x_$.png", "utf-8"),
        ("\N{CJK UNIFIED IDEOGRAPH-6570}.png", "ascii"),
        ("bad\udcff.png", "utf-8"),
        ("two\nlines.png", "ascii"),
    ],
)
def test_names_of_all_kinds(name, encoding, monkeypatch, tmp_path):
    save(tmp_path / "a.png", typed("314")).rename(tmp_path / name)
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with warnings.catch_warnings(action="error"):
        assert command.main(["read", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 0
    out.seek(0)
    lines = out.read().splitlines()
    assert len(lines) == 2
    assert ".png: 314   " in lines[0]
    assert (tmp_path / "out/read/figure.png").exists()


def transparent(mode, key):
    """Black ink on the colour 0, which is transparent."""
    ink = (lambda v: 255 * (v < 128)) if mode == "1" else (lambda v: v < 128)
    return lambda image, path: image.convert("L").point(ink).convert(mode).save(path, transparency=key)


def turned_by_its_exif(image, path):
    """As a phone held upright saves its pictures, with a second note that is broken."""
    turn = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    exif = b"II*\0\x08\0\0\0\x02\0" + turn + b"\x1a\x01\x02\0\x03\0\0\0" + b"72\0\0" + b"\0\0\0\0"  # text
    image.rotate(90, expand=True).save(path, exif=b"Exif\0\0" + exif)


def converted(mode):
    return lambda image, path: image.convert(mode, dither=Image.Dither.NONE).save(path)


def sixteen_bits(order):
    return lambda image, path: Image.fromarray(np.asarray(image.convert("L")).astype(f"{order}u2") * 257).save(path)


MODES = {"grey.png": "L", "photo.jpg": "RGB", "palette.gif": "P", "alpha.png": "LA", "bits.bmp": "1", "floats.tif": "F"}
MODES |= {"print.jpg": "CMYK"}
FILES = {name: converted(mode) for name, mode in MODES.items()} | {
    "sixteen_bits.png": sixteen_bits("<"),
    "the_other_byte_order.tif": sixteen_bits(">"),
    "transparent_grey.png": transparent("L", 0),
    "transparent_colour.png": transparent("RGB", (0, 0, 0)),
    "transparent_bits.png": transparent("1", 0),
    "phone.jpg": turned_by_its_exif,
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_give_the_same(name, network, tmp_path):
    FILES[name](Image.fromarray(typed("314")).convert("RGB"), tmp_path / name)
    assert said(network, read.load_picture(tmp_path / name), turns=0) == "a: 314"


@pytest.mark.parametrize("error", [KeyError, MemoryError])
def test_whatever_a_decoder_raises_is_one_line_and_the_next_file_is_read(error, capsys, monkeypatch, tmp_path):
    paths = [save(tmp_path / name, typed("314")) for name in ("a.png", "b.png")]

    def pixels(image, original=reader._pixels):
        if image.filename == str(paths[0]):
            raise error("two\nlines")
        return original(image)

    monkeypatch.setattr(reader, "_pixels", pixels)
    code, lines, (message,) = run(capsys, tmp_path, *paths)
    assert code == 2
    assert message.startswith(f"error: {paths[0]}: cannot be read: ")
    assert lines[0].startswith(f"{paths[1]}: 314 ")


def bad_files(folder):
    blank = np.full((50, 50), 255, np.uint8)
    whole = save(folder / "whole.png", specimens.sheet())
    (folder / "cut.png").write_bytes(whole.read_bytes()[:20_000])
    save(folder / "cut.jpg", specimens.sheet())
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:5_000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    for name, width in (("huge.png", 20_000), ("bomb.png", 40_000)):
        Image.new("1", (width, 5_001)).save(folder / name)
    return {
        save(folder / "blank.png", blank): "must show ink on paper",
        save(folder / "pixel.png", blank[:1, :1]): "at least 2x2 pixels",
        folder / "cut.png": "cannot be read: ",
        folder / "cut.jpg": "cannot be read: image file is truncated",
        folder / "empty.png": "is no picture that Pillow reads",
        folder / "folder.png": "is a folder: name the pictures in it",
        folder / "huge.png": "must have at most 100,000,000 pixels, got 20000 x 5001",
        folder / "bomb.png": "must have at most 100,000,000 pixels",
        folder / "nosuch.png": "does not exist",
    }


def test_mistakes_take_one_line_and_leave_nothing(capsys, tmp_path):
    (tmp_path / "in").mkdir()
    files = bad_files(tmp_path / "in")
    code, lines, errors = run(capsys, tmp_path, *files)
    assert (code, lines) == (2, [])
    assert len(errors) == len(files)
    for error, (path, says) in zip(errors, files.items(), strict=True):
        assert error.startswith(f"error: {path}: ")
        assert says in error
    assert not (tmp_path / "out").exists()


def test_weights_that_read_no_digits(capsys, sheet, tmp_path):
    picture = save(tmp_path / "a.png", sheet)
    (tmp_path / "damaged").write_bytes(b"weights")
    convert.export(tmp_path / "small", mlp.init(random.key(0), (64, 30, 10)), {"sure": 0.5})
    convert.export(tmp_path / "other", {"w": np.zeros(3)}, {"sure": 0.5})
    convert.export(tmp_path / "unsure", mlp.init(random.key(0), (784, 30, 10)))
    for name in ("damaged", "small", "other", "unsure", "nosuch", ""):
        code, lines, (error,) = run(capsys, tmp_path, picture, flags=["--weights", str(tmp_path / name)])
        assert (code, lines) == (2, [])
        assert str(tmp_path / name) in error
    assert not (tmp_path / "out").exists()


def test_the_page_is_one_file(capsys, tmp_path):
    code, lines, errors = run(capsys, tmp_path, flags=["--page"])
    (path,) = (tmp_path / "out/read").iterdir()
    assert (code, errors, lines) == (0, [], [f"open {path} in a browser, on a phone too"])
    assert path.stat().st_size < 1_000_000


def test_the_page_reads_no_files_and_must_be_written(capsys, tmp_path):
    code, lines, (error,) = run(capsys, tmp_path, "a.png", flags=["--page"])
    assert (code, lines) == (2, [])
    assert "name no pictures with --page" in error
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("")
    code, lines, (error,) = run(capsys, tmp_path, flags=["--page"])
    assert (code, lines) == (2, [])
    assert error.startswith(f"error: cannot write {tmp_path / 'out/read/page.html'}")


# The network that comes with jnn


def accuracy(network, seen):
    outputs = np.asarray(read.probabilities(network.params, seen.xs))
    return np.mean((outputs.argmax(axis=1) == seen.labels) & seen.xs.any(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("digits", 0.95), ("fonts", 0.98)])
def test_it_reads_digits_that_it_has_never_seen(kind, least, network):
    if kind == "digits":
        every = data.Split(*(np.concatenate(parts) for parts in zip(*data.digits(), strict=True)))
        made = samples.scans(every)
    else:
        made = samples.in_fonts("0123456789", handwriting.SIZES)
    assert accuracy(network, samples.normalised(made)) >= least


@pytest.mark.slow
@pytest.mark.mnist
def test_it_reads_mnist(network):
    test = data.mnist().test
    assert accuracy(network, samples.Seen(*map(np.asarray, test))) >= 0.992


def test_weights_go_where_a_folder_is(tmp_path):
    config = handwriting.Config(weights=tmp_path / "none" / "file")
    with pytest.raises(ValueError, match="must be a file in a folder that exists"):
        handwriting.compute(config)


def test_as_many_digits_are_uncertain_as_others_are_sure():
    """Digits at 0.2, 0.4, ..., 1 and others at 0.11, 0.22, ..., 0.99: below 0.61 are 3 of 5, at or above it 4 of 9."""
    digits, others = np.zeros((1, 5, 10)), np.zeros((1, 9, 10))
    digits[0, :, 3], others[0, :, 7] = np.arange(1, 6) / 5, 0.11 * np.arange(1, 10)
    assert handwriting.least_sure(digits, others) == 0.61
