import gzip
import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import convert, data, mlp
from jnn.data import mnist_files
from tests.helpers import KINDS, idx, refuses

NAMES = tuple(mnist_files._SHA256_OF_CONTENT)
LABELS = "t10k-labels-idx1-ubyte"


def stand_in(name):
    """One of MNIST's files, for fewer images: every one blank but for one pixel, labels 0 to 9 in turn."""
    n = 60 if name.startswith("train") else 20
    if "labels" in name:
        return idx(np.arange(n, dtype=np.uint8) % 10)
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 3, 5] = 255
    return idx(images)


@pytest.fixture(scope="session")
def contents():
    return {name: stand_in(name) for name in NAMES}


@pytest.fixture(scope="session")
def files(contents):
    return {name: gzip.compress(content, 1) for name, content in contents.items()}


@pytest.fixture
def folder(contents, monkeypatch, tmp_path):
    """An empty $JNN_DATA_DIR; the stand-ins are what the hashes want."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mnist_files, "_SHA256_OF_CONTENT", hashes)
    monkeypatch.setenv("JNN_DATA_DIR", str(tmp_path / "mnist"))
    return tmp_path / "mnist"


@pytest.fixture
def server(files):
    """Mirrors on the loopback: the first part of a path says how it answers."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            how, name = self.path.strip("/").removesuffix(".gz").split("/")
            if how == "forbidden":
                self.send_error(403)
                return
            whole = files[name]
            corrupt = gzip.compress(b"\0\0\x08\x01" + os.urandom(400))
            other = {"corrupt": corrupt, "html": b"<html>not here</html>", "truncated": whole[: len(whole) // 2]}
            body = other.get(how, whole)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) * (2 if how == "broken" else 1)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield lambda *hows: [f"http://127.0.0.1:{server.server_port}/{how}/" for how in hows], requests
    server.shutdown()
    thread.join()
    server.server_close()


def save(folder, files, form=bytes, spell="{}.gz".format, **instead):
    """Fill `folder` with the stand-ins; `instead` has the bytes of some, by name with underscores."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / spell(name)).write_bytes(instead.get(name.replace("-", "_"), form(content)))


# Digits and labels


def test_digits_are_scikit_learns():
    """The images of scikit-learn, in the split that its train_test_split makes, bit for bit."""
    datasets, selection = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.model_selection")
    images, labels = datasets.load_digits(return_X_y=True)
    split = selection.train_test_split(images / 16, labels, test_size=360, random_state=0, stratify=labels)
    train, test = data.digits()
    for array, theirs in zip((train.xs, test.xs, train.labels, test.labels), split, strict=True):
        np.testing.assert_array_equal(array, theirs)
    assert train.xs.dtype == test.xs.dtype == jnp.float32
    assert train.labels.dtype == test.labels.dtype == jnp.int32
    assert (train.xs.min(), train.xs.max()) == (0, 1)


def test_the_digits_name_their_source_and_licence():
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        assert "UCI Machine Learning Repository" in str(file["source"])
        assert "CC BY 4.0" in str(file["source"])


def test_one_hot():
    ys = data.one_hot(jnp.array([2, 0]), 3)
    assert ys.dtype == jnp.float32
    np.testing.assert_array_equal(ys, [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(data.one_hot(jnp.asarray(1), 2), [0, 1])
    np.testing.assert_array_equal(jax.jit(data.one_hot, static_argnums=1)(jnp.array([2, 0]), 3), ys)


test_bad_input = refuses(
    (lambda: data.one_hot(jnp.array([0, -1]), 3), ValueError, r"labels must be in 0 \.\.\. 2, got -1 at \(1,\)"),
    (lambda: data.one_hot(jnp.array([0, 3]), 3), ValueError, r"labels must be in 0 \.\.\. 2, got 3 at \(1,\)"),
    (lambda: data.one_hot(jnp.array([0.0]), 3), TypeError, "labels must be integers, got float32"),
    (lambda: data.one_hot(jnp.array([0]), 0), ValueError, "classes must be at least 1, got 0"),
    (lambda: data.standardise(np.ones((2, 2), int)), TypeError, "xs must have a floating dtype"),
    (lambda: data.standardise(np.ones((0, 2))), ValueError, "data must hold at least one example"),
    (lambda: data.read_idx(None), TypeError, "path must be a path, got None"),
    (lambda: data.idx_folder(None), TypeError, "folder must be a path, got None"),
    (lambda: data.idx_folder(".", prefix=None), TypeError, "prefix must be text, got None"),
    (lambda: data.mnist("https://a.host/mnist/"), TypeError, "mirrors must be a list of URLs, got "),
    (lambda: data.mnist(None), TypeError, "mirrors must be a list of URLs, got "),
    (lambda: data.mnist([3]), TypeError, "mirrors must be a list of URLs, got "),
    start="^",
)


def test_traced_labels_outside_are_seen():
    rows = jax.jit(lambda labels: data.one_hot(labels, 3))(jnp.array([0, 3, -1]))
    np.testing.assert_array_equal(np.isnan(rows), [[0] * 3, [1] * 3, [1] * 3])
    np.testing.assert_array_equal(rows[0], [1, 0, 0])


def test_standardise_is_fitted_once_and_applied_to_others():
    xs = jnp.array([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    scale = data.standardise(xs)
    np.testing.assert_allclose(scale(xs), [[-1, -1, 0], [1, 1, 0]])
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(scale, jnp.array([[5.0, 0.0, 6.0]])), [[3, -2, 1]])


# IDX files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("form", [bytes, gzip.compress])
def test_read_idx_by_content(tmp_path, form, suffix):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"some{suffix}"
    path.write_bytes(form(idx(array)))
    np.testing.assert_array_equal(data.read_idx(path), array)


@pytest.mark.parametrize("dtype", KINDS)
def test_read_idx_of_every_type(tmp_path, dtype):
    array = np.array([[1, 2, 100], [3, 4, 5]]).astype(dtype)
    array[0] = {"i": np.iinfo, "u": np.iinfo, "f": np.finfo}[array.dtype.kind](dtype).max
    path = tmp_path / "some"
    path.write_bytes(idx(array))
    read = data.read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == dtype
    assert read.dtype.isnative
    read -= read  # it is the caller's own
    path.write_bytes(idx(array.reshape(1, 2, 1, 3, 1)))
    assert data.read_idx(path).shape == (1, 2, 1, 3, 1)
    path.write_bytes(idx(array[:0]))
    assert data.read_idx(path).shape == (0, 3)


GOOD = idx(np.arange(12, dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (GOOD[:-1], "truncated or too long: 19 bytes"),
        (GOOD + b"\0", "truncated or too long"),
        (GOOD[:6], "truncated or too long"),
        (b"", "must be an IDX file, gzipped or not, .*got 0x"),
        (b"\0\0\x0d" + GOOD[3:], r"20 bytes for float32 of shape \(12,\)"),
        (b"\0\0\x0a" + GOOD[3:], "got 0x00000a01"),
        (gzip.compress(GOOD, mtime=0)[:-3], "truncated or damaged gzip file"),
        (b"\0\0\x08\0" + GOOD[4:], "got 0x00000800"),
        (b"<html>", "got 0x3c68746d"),
    ],
)
def test_read_idx_of_a_damaged_file(tmp_path, content, wrong):
    path = tmp_path / "some-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"some-idx1-ubyte .*{wrong}"):
        data.read_idx(path)


# Folders like MNIST's


def save_emnist(folder, **instead):
    """Letters as EMNIST has them: columns as rows, labels from 1; `instead` has the arrays of some files."""
    images, labels = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3), np.array([1, 26, 3, 4], np.uint8)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:2], "test_labels": labels[:2]}
    for name, array in (arrays | instead).items():
        axes = 3 if "images" in name else 1
        path = folder / f"emnist-letters-{name.replace('_', '-')}-idx{axes}-ubyte.gz"
        path.write_bytes(gzip.compress(idx(array), mtime=0))
    return images, labels


def test_idx_folder(tmp_path):
    images, labels = save_emnist(tmp_path)
    train, test = data.idx_folder(tmp_path, prefix="emnist-letters-")
    np.testing.assert_array_equal(train.xs, images.reshape(4, 6) / np.float32(255))
    assert train.labels.tolist() == labels.tolist()
    assert (test.xs.shape, test.labels.tolist()) == ((2, 6), [1, 26])
    assert (train.xs.dtype, train.labels.dtype) == (jnp.float32, jnp.int32)
    upright, _ = data.idx_folder(str(tmp_path), prefix="emnist-letters-", transpose=True)
    np.testing.assert_array_equal(upright.xs.reshape(4, 3, 2), train.xs.reshape(4, 2, 3).swapaxes(1, 2))
    assert data.one_hot(upright.labels - 1, 26)[1, 25] == 1


def test_idx_folder_reads_mnists_names(folder, contents):
    """Folders called like files, as Kaggle has them, are no obstacle."""
    save(folder, contents, spell=lambda name: name.replace("-idx", ".idx"))
    (folder / NAMES[0]).mkdir()
    for ours, same in zip(jax.tree.leaves(data.idx_folder(folder)), jax.tree.leaves(data.mnist(())), strict=True):
        np.testing.assert_array_equal(ours, same)


BLANK = np.zeros((4, 2, 3), np.uint8)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("instead", "wrong"),
    [
        ({"train_images": BLANK[0]}, r"train-images-idx3-ubyte\.gz must hold uint8 of shape \[N, H, W\].*\(2, 3\)"),
        ({"train_images": BLANK[:0]}, r"each at least 1, got uint8 of shape \(0, 2, 3\)"),
        ({"test_images": BLANK.astype(np.float32)}, r"test-images-idx3-ubyte\.gz must .*got float32"),
        ({"train_labels": BLANK[:3, 0, 0]}, r"train-labels.* integers of shape \(4,\), one for each image, .*\(3,\)"),
        ({"train_labels": np.zeros(4)}, r"must hold integers of shape \(4,\).*got float64"),
        ({"train_labels": np.zeros((4, 8), np.int32)}, r"got int32 of shape \(4, 8\)"),
        ({"test_images": BLANK[:2, :, :2]}, "must have the same number of pixels, got 6 and 4"),
    ],
)
def test_idx_folder_of_something_else(tmp_path, instead, wrong):
    save_emnist(tmp_path, **instead)
    with pytest.raises(ValueError, match=wrong):
        data.idx_folder(tmp_path, prefix="emnist-letters-")


@pytest.mark.bad_input
def test_idx_folder_without_a_file(tmp_path):
    save_emnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must hold train-images-idx3-ubyte.* pass prefix='emnist-letters-'$"):
        data.idx_folder(tmp_path)
    (tmp_path / "emnist-letters-test-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="emnist-letters-t10k- or test-images-idx3-ubyte, gzipped or not$"):
        data.idx_folder(tmp_path, prefix="emnist-letters-")
    with pytest.raises(FileNotFoundError, match="absent must hold train-images-idx3-ubyte, gzipped or not$"):
        data.idx_folder(tmp_path / "absent")


# MNIST from files


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("form", [bytes, gzip.compress])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("mark", "-.")
def test_mnist_as_people_have_it(folder, contents, below, form, suffix, mark):
    """As browsers, torchvision and Kaggle leave it: dots for hyphens, gzipped or not whatever the name."""
    save(folder / below, contents, form=form, spell=lambda name: name.replace("-idx", f"{mark}idx") + suffix)
    train, test = data.mnist(mirrors=())
    assert (train.xs.shape, test.xs.shape) == ((60, 784), (20, 784))
    assert (train.xs.dtype, train.labels.dtype) == (jnp.float32, jnp.int32)
    assert (test.xs[0].nonzero()[0].tolist(), test.xs.max()) == ([3 * 28 + 5], 1)
    assert test.labels[:12].tolist() == [*range(10), 0, 1]


OTHER = np.arange(20, dtype=np.uint8) % 10


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (gzip.compress(idx(OTHER), mtime=0)[:-20], "truncated or damaged gzip file"),
        (b"no IDX at all", "must be an IDX file"),
        (gzip.compress(idx(OTHER)[:-1], mtime=0), "truncated or too long"),
        (idx(OTHER.astype(np.float32)), r"got float32 of shape \(20,\) with another SHA-256"),
        (idx(OTHER[:-1]), r"got uint8 of shape \(19,\)"),
        (gzip.compress(idx(OTHER[::-1]), mtime=0), "with another SHA-256; data.idx_folder reads other data sets"),
    ],
    ids=["cut", "no idx", "short", "floats", "few labels", "other content"],
)
def test_a_refused_file_is_named_and_left_alone(folder, files, server, content, wrong):
    mirrors, requests = server
    save(folder, files, t10k_labels_idx1_ubyte=content)
    (folder / f"{NAMES[0]}.gz").unlink()
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(
        ValueError, match=rf"{LABELS}\.gz.*{wrong}.*: to have MNIST downloaded, move the file away"
    ) as refused:
        data.mnist(mirrors("good"))
    assert "delete" not in str(refused.value)
    assert not requests, "nothing is downloaded beside it"
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / f"{LABELS}.gz").read_bytes() == content


def test_nothing_is_downloaded_beside_another_data_set(folder, server):
    folder.mkdir()
    save_emnist(folder)
    with pytest.raises(ValueError, match=r"MNIST's files, got those with prefix emnist-letters-: data\.idx_folder"):
        data.mnist(server[0]("good"))
    assert not server[1]
    assert len(list(folder.iterdir())) == 4


# MNIST from mirrors


def test_mnist_is_downloaded_once(folder, server, capsys):
    mirrors, requests = server
    train, _ = data.mnist([mirror.removesuffix("/") for mirror in mirrors("good")])
    assert train.xs.shape == (60, 784)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    assert len(requests) == 4
    assert "100%" in capsys.readouterr().err  # the progress bar
    data.mnist(mirrors("good"))
    assert len(requests) == 4


@pytest.mark.parametrize("first", ["forbidden", "truncated", "broken", "corrupt", "html"])
def test_the_next_mirror_serves_when_one_does_not(folder, files, server, first):
    mirrors, requests = server
    save(folder, files)
    (folder / f"{LABELS}.gz").unlink()
    data.mnist(mirrors(first, "good"))
    assert requests == [f"/{how}/{LABELS}.gz" for how in (first, "good")]
    assert (folder / f"{LABELS}.gz").read_bytes() == files[LABELS]


def test_nothing_is_left_behind_when_every_mirror_fails(folder, server):
    mirrors, _ = server
    reasons = r"403.*/truncated/: train-images-idx3-ubyte\.gz is a truncated .*/: .*refused"
    with pytest.raises(OSError, match=rf"(?s)cannot download train-images-idx3-ubyte\.gz .*{reasons}.*JNN_DATA_DIR"):
        data.mnist([*mirrors("forbidden", "truncated"), "http://127.0.0.1:9/"])
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made(folder, server):
    folder.write_text("a file is in the way")
    with pytest.raises(OSError, match=r"cannot be written to .*set JNN_DATA_DIR"):
        data.mnist(server[0]("good"))
    assert folder.read_text() == "a file is in the way"


def test_the_cache_is_the_users_own(monkeypatch):
    monkeypatch.delenv("JNN_DATA_DIR", raising=False)
    folder = mnist_files._folder()
    assert folder.is_absolute()
    assert folder.parts[-2:] == ("jnn", "mnist")


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("JNN_DATA_DIR", "~/letters")
    assert mnist_files._folder() == tmp_path / "letters"
    mnist_files._folder().mkdir()
    save_emnist(mnist_files._folder())
    assert data.idx_folder("~/letters", prefix="emnist-letters-").train.xs.shape == (4, 6)


@pytest.mark.bad_input
@pytest.mark.parametrize("cache", ["", "~/cache"])
def test_a_user_without_a_home_folder(monkeypatch, cache):
    """As in a container under a bare user id."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.delenv("JNN_DATA_DIR", raising=False)
    with pytest.raises(OSError, match="no home folder to cache MNIST in: set JNN_DATA_DIR to a folder"):
        data.mnist(mirrors=())
    monkeypatch.setenv("JNN_DATA_DIR", "~/data")
    with pytest.raises(ValueError, match="JNN_DATA_DIR must start with a home folder that exists, got ~/data"):
        data.mnist(mirrors=())
    with pytest.raises(ValueError, match="folder must start with a home folder that exists, got ~/data"):
        data.idx_folder("~/data")


@pytest.mark.bad_input
def test_a_missing_pooch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delenv("JNN_DATA_DIR", raising=False)
    with pytest.raises(ImportError, match="^data.mnist needs pooch: pip install pooch requests, or set JNN_DATA_DIR"):
        data.mnist(mirrors=())


def test_the_reader_is_a_network_for_mnists_images():
    assert mlp.sizes(convert.load(data.READER))[::3] == (784, 10)
    assert 0 < convert.metadata(data.READER)["sure"] < 1


def test_the_mirrors_are_two_and_encrypted():
    assert len(data.MIRRORS) == 2
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in data.MIRRORS)


# The real one


@pytest.mark.mnist
def test_real_mnist():
    train, test = data.mnist(mirrors=())
    assert (len(train.xs), len(test.xs)) == (60_000, 10_000)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_allclose(jnp.mean(train.xs), 0.1307, atol=1e-4)
