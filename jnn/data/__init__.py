"""Data sets: 1,797 small digits that come with the package, MNIST (local or downloaded once), and folders like MNIST's.

Images are float32 in [0, 1], one row of pixels for each example; labels are int32. For grey pictures [N, H, W] of your
own, with bytes as pixels, `pictures.reshape(len(pictures), -1).astype(np.float32) / 255` makes such rows.
"""

from pathlib import Path

from jnn.data.arrays import Dataset, Split, digits, one_hot, standardise
from jnn.data.idx import idx_folder, read_idx
from jnn.data.mnist_files import MIRRORS, mnist

__all__ = ["MIRRORS", "READER", "Dataset", "Split", "digits"]
__all__ += ["idx_folder", "mnist", "one_hot", "read_idx", "standardise"]

READER = Path(__file__).parents[1] / "pictures" / "reader.safetensors"
"""A network that reads the images of `pictures`, trained on MNIST: relu neurons and softmax outputs, in float16.

`jnn.convert.load(READER)` are its parameters, and `jnn.convert.metadata(READER)` is what it was trained by, with the
probability `sure` below which an answer is doubtful.
"""
