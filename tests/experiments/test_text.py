"""Texts and what predicts them, the network that learns to write, and every mistake with a file."""

import bz2
import lzma
import math
import os
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import runner
from experiments.chapter_5 import corpus, text
from experiments.chapter_5.corpus import texts
from jnn import convert, language
from tests.helpers import interrupted_fit

SIZE = ("--units", "12", "--rows", "4", "--window", "16", "--written", "30", "--eta", "0.03")
VERSES = "One saw the fox.\nOne had the dog.\nTwo had the fox.\nTwo saw the dog.\nThree ran to the fox and the dog.\n"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def run(*flags, out):
    return runner.main(text, [*map(str, flags), "--out", str(out)])


def small(train_text, held_out):
    return texts._corpus(train_text, held_out, "a test")


# Texts


def test_the_standard_library_is_split_by_files():
    whole = corpus.standard_library(10**9)
    everything = [whole.decode(part) for part in whole[:2]]
    assert 0.02 < len(everything[1]) / len(everything[0]) < 0.08
    first = {part.splitlines()[0] for part in everything}
    assert len(first) == 2
    for line in ("class TestCase(object):", "def namedtuple(typename, field_names, "):
        assert sum(line in part for part in everything) == 1
    assert not any("def test_getattr_hooks" in part for part in everything)  # the tests are left out
    assert whole.source.startswith("the standard library of Python 3.")
    cut = corpus.standard_library(1_000)
    assert cut.decode(cut.train) == everything[0][:1_000]
    assert len(cut.held_out) == 1_000


def test_a_file_is_split_near_its_end(tmp_path):
    path = write(tmp_path / "verses.txt", b"\xef\xbb\xbf" + 40 * VERSES.encode())
    found = corpus.from_file(path, 10**9)
    assert found.decode(found.train) + found.decode(found.held_out) == 40 * VERSES
    assert len(found.train) == len(40 * VERSES) * 19 // 20
    assert found.source == "verses.txt"
    np.testing.assert_array_equal(found.encode("fox"), [found.alphabet.index(c) for c in "fox"])


MANY = "".join(chr(0x4E00 + i) for i in range(6_000))


@pytest.mark.parametrize(
    ("frequent", "rare", "replaced"),
    [(100 * MANY[:127], 12, 12), (100 * MANY[:127], 13, 12), (2 * MANY[:4096], 200, 200)],
    ids=["one in a thousand", "more", "more than an alphabet has"],
)
def test_the_alphabet_is_what_the_text_needs(frequent, rare, replaced):
    """What is too rare is read as one character, which is also that of what the training text does not have."""
    found = small(frequent + MANY[5_000 : 5_000 + rare], "a" + MANY[0])
    kept = rare - replaced
    assert len(found.alphabet) == len(set(frequent)) + kept + 1
    assert found.decode(found.train) == frequent + MANY[5_000 : 5_000 + kept] + replaced * corpus.OTHER
    assert found.decode(found.held_out) == corpus.OTHER + MANY[0]
    assert found.replaced == (replaced + 1) / (len(frequent) + rare + 2)


def test_windows_are_rows_of_the_text_in_order():
    found = corpus.windows(np.arange(103, dtype=np.uint8), 4, 5)
    assert found.shape == (5, 4, 6)
    rows = [np.concatenate([found[0, i, :1], found[:, i, 1:].ravel()]) for i in range(4)]
    np.testing.assert_array_equal(rows, [np.arange(25 * i, 25 * i + 26) for i in range(4)])
    assert corpus.windows(np.arange(12, dtype=np.uint8), 4, 5).shape == (1, 2, 6)


# Other models


def test_compressed_sizes_in_bits_per_character():
    found = small(30 * VERSES, VERSES[::-1])
    longer, before = (len(lzma.compress(part.encode(), preset=9)) for part in (30 * VERSES + VERSES[::-1], 30 * VERSES))
    assert corpus.xz(found) == 8 * (longer - before) / len(VERSES)
    assert corpus.bzip2(found) == 8 * len(bz2.compress(VERSES[::-1].encode())) / len(VERSES)


@pytest.mark.parametrize(
    ("order", "train_text", "held_out"),
    [
        *((order, 3 * VERSES, "Two had one dog.\nThree fox saw the two.\n") for order in (0, 1, 3)),
        (6, "".join(MANY[1994:2000] + c for c in MANY[:2000]), MANY[1994:2000] + MANY[1900]),
        (6, "abc", "ab"),
    ],
)
def test_counts_by_their_definition(order, train_text, held_out):
    """Also where as many characters of a large alphabet are more than a 64-bit number holds."""
    found = small(train_text, held_out)
    past, n = found.decode(found.train), len(found.alphabet)

    def p(context, character):
        shorter = p(context[1:], character) if context else 1 / n
        after = Counter(
            b for a, b in zip(grams(past, len(context)), past[len(context) :], strict=False) if a == context
        )
        N, t = sum(after.values()), len(after)
        return (after[character] + t * shorter) / (N + t) if N else shorter

    def grams(whole, k):
        return [whole[i : i + k] for i in range(len(whole) - k)]

    held_out = found.decode(found.held_out)
    values = [-math.log2(p(held_out[max(0, i - order) : i], c)) for i, c in enumerate(held_out)]
    np.testing.assert_allclose(corpus.counts(found, order), np.mean(values), rtol=1e-12)


def test_labels_of_python():
    """A character counts as what it leaves the reader in: a string ends with its last quote."""
    source = 'x = f(["(", \'a\'])  # no "\nif x:\n    """#\n"""\n'
    expected = {
        # source:    x = f(["(", 'a'])  # no "~if x:~    """#~"""~
        "string": "000000011000110000000000000000000000111111100",
        "comment": "000000000000000000011111100000000000000000000",
        "brackets": "000001222222222100000000000000000000000000000",
        "indentation": "000000000000000000000000000000001234444440000",
    }
    found = corpus.labels(source)
    assert {name: "".join(f"{value:.0f}" for value in values) for name, values in found.items()} == expected
    no_python = "It's (an apostrophe\n  that no string has.\n"
    found = corpus.labels(no_python)
    assert all(len(values) == len(no_python) for values in found.values())
    assert found["indentation"].max() == 2


# The network


def test_bits_per_character_by_both_ways_of_reading():
    """As it is, the cost of each window; learning as it reads, the same from the parameters after each step."""
    params = language.init(jax.random.key(0), 5, 3, 4)
    held_out = jnp.asarray(np.random.default_rng(0).integers(0, 5, (3, 2, 7)))
    states, plain, learning, moving = language.zero_states(params), [], [], params
    states_moving = language.zero_states(params, 2)
    for window in held_out:
        cost, states = language.cost(params, states, window)
        plain.append(cost)
        (cost, states_moving), grads = text.GRAD(moving, states_moving, window)
        learning.append(cost)
        clipped = min(1, 1 / optax.tree.norm(grads))
        moving = optax.apply_updates(moving, optax.tree.scale(-0.5 * clipped, grads))
    np.testing.assert_allclose(text.bits(params, held_out), np.mean(plain) / math.log(2), rtol=1e-6)
    np.testing.assert_allclose(
        text.bits_while_learning(params, held_out, 0.5), np.mean(learning) / math.log(2), rtol=1e-6
    )
    assert learning[-1] != plain[-1]


def test_a_cell_that_counts_brackets_is_found():
    """A network whose cell 2 adds 1 at an opening bracket and takes 1 away at a closing one."""
    source = "f(g(h(x, y), [z]))\nh = 1\n" * 128
    found = small(source, source)
    params = language.init(jax.random.key(0), len(found.alphabet), 2, 4)
    (layer,) = params.layers
    steps = np.array([(c in "([{") - (c in ")]}") * 1.0 for c in found.alphabet])
    gates = {"rem": (0, 20), "save": (0, 20), "ltm": (0.05, 0)}
    for name, (weight, bias) in gates.items():
        gate = getattr(layer, name)
        gate = gate._replace(
            W=gate.W.at[2].set(jnp.array([weight, 0])), U=gate.U.at[2].set(0), b=gate.b.at[2].set(bias)
        )
        layer = layer._replace(**{name: gate})
    params = params._replace(embedding=params.embedding.at[:, 0].set(steps), layers=(layer,))
    arrays = text.cells(params, found)
    i = list(arrays["labels"]).index("brackets")
    assert tuple(arrays["cells"][i]) == (0, 2)
    assert arrays["correlations"][i] > 0.99
    assert arrays["shown"][i].startswith(("f(", "h ="))
    depth = corpus.labels(arrays["shown"][i])["brackets"]
    assert np.corrcoef(depth, arrays["memories"][i])[0, 1] > 0.99


def test_a_text_in_one_line_and_another_script_is_learned(tmp_path, capsys):
    """Its samples continue its first character; characters that a font lacks are no warning, nor is a name."""
    poem = "床前明月光疑是地上霜举头望明月低头思故乡"
    name = b"\xffpoem" if sys.platform == "linux" else b"poem"
    path = write(tmp_path / os.fsdecode(name), 150 * poem)
    assert run("--file", path, *SIZE, "--epochs", 6, "--temperatures", 0, out=tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.partition("sample at 0:\n")[2].startswith(poem)
    assert f"source:\n{name.decode(errors='replace')}\n" in shown


def test_a_resumed_run_writes_the_same_and_its_network_is_kept(tmp_path):
    """From the file of two layers, which only the resumed run writes, come the bits of the same held-out text."""
    path, file = write(tmp_path / "verses.txt", 40 * VERSES), tmp_path / "net.safetensors"
    flags = ("--file", path, *SIZE, "--epochs", 3, "--layers", 2, "--start", "\nOne ")
    assert run(*flags, out=tmp_path / "alone") == 0
    with interrupted_fit(epoch=2):
        assert run(*flags, out=tmp_path / "again") == 130
    assert run(*flags, "--resume", "--weights", file, out=tmp_path / "again") == 0
    alone, resumed = (np.load(tmp_path / name / "text" / "arrays.npz") for name in ("alone", "again"))
    for name in set(alone) - {"seconds_of_training"}:
        np.testing.assert_array_equal(resumed[name], alone[name])
    assert all(str(alone[name]).startswith("\nOne ") for name in alone if name.startswith("sample"))
    params, about, found = convert.load(file), convert.metadata(file), corpus.from_file(path, 10**9)
    assert len(params.layers) == 2
    assert about == {"alphabet": found.alphabet, "source": "verses.txt"}
    held_out = jnp.asarray(corpus.windows(found.held_out, 4, 16))
    np.testing.assert_allclose(text.bits(params, held_out), alone["bits_per_character"], rtol=1e-6)
    assert alone["held_out_bits"].shape == (3,)


def test_the_claims_can_be_false():
    arrays = {
        "bits_per_character": np.asarray(2.0),
        "bits_per_character_learning_as_it_reads": np.asarray(1.9),
        "training_bits": np.arange(40.0).reshape(2, 20),
        "share_of_characters_replaced": np.asarray(0.011),
        **{f"bits_of_{name}": np.asarray(1.8) for name in text.MODELS},
        "labels": np.array(["string", "brackets"]),
        "correlations": np.array([0.9, 0.3]),
    }
    assert list(text.claims(text.Config(), arrays).values()) == [False] * 6
    assert list(text.claims(text.Config(epochs=1), arrays).values()) == [False] * 2


# Mistakes


SHORT = "each part of the text must have more than 16 characters, a window, got "


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ("", (), SHORT + "0"),
        (16 * "0123456789abcdef\n", (), SHORT + "14"),
        (b"\x89PNG\r\n\x1a\n", (), "file must be UTF-8 text, got {}/file: "),
        (b"zero\0byte", (), "file must be text, got {}/file, which contains zero bytes"),
        (None, (), "file must have at most 100,000,000 bytes, got 2,000,000,000 in {}/file"),
        (40 * VERSES, ("--file", "{}/none"), "No such file or directory"),
        (40 * VERSES, ("--file", "{}"), "file must be a text file, got {}, which is a folder"),
        (40 * VERSES, ("--file", "/dev/null"), "file must be a text file, got /dev/null, which is not a regular file"),
        (40 * VERSES, ("--start", "Zwölf"), "text's alphabet, '\\n .OTadefghnorstwx\ufffd', got 'Z', 'l', 'ö'"),
        (40 * VERSES, ("--start", ""), "start must have at least one character, got none"),
        (40 * VERSES, ("--temperatures",), "temperatures must have at least one number, got none"),
        (40 * VERSES, ("--temperatures", "-1"), "temperatures must be at least 0, got -1.0"),
        (40 * VERSES, ("--weights", "{}"), "weights must be a file in a folder that exists, got {}"),
        (
            40 * VERSES,
            ("--rows", "1000"),
            "the training text must have more than rows * window = 16000 characters",
        ),
    ],
)
def test_mistakes(content, flags, message, tmp_path, capsys):
    path = write(tmp_path / "file", content or b"")
    if content is None:
        with path.open("wb") as file:
            file.truncate(2 * 10**9)
    flags = [flag.format(tmp_path) for flag in flags]
    assert run("--file", path, *SIZE, *flags, out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message.replace("{}", str(tmp_path)) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_python_without_its_source(monkeypatch, tmp_path):
    monkeypatch.setattr(texts.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ValueError, match="source of Python's standard library must be in .*: name another text"):
        corpus.standard_library(100)
