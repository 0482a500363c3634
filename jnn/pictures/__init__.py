"""Turns photos and scans of handwriting into images like MNIST's.

`normalise` turns the picture of one digit into the image that a network trained on MNIST expects, by the rules of MNIST
itself (LeCun et al., 1998): scaled to fit 20x20 pixels with its proportions kept, its centre of mass in the middle of
28x28. `find` returns the box of each digit in a picture of several, `digits` both, and `page` also the lines of digits
and the ink that was left out:

    boxes, xs = pictures.digits(photo)
    probabilities = activations.softmax(jax.vmap(functools.partial(mlp.logits, hidden=relu), (None, 0))(params, xs))

They run on the host, on NumPy arrays, as the shapes of their results depend on the values of the pixels.

A picture is [H, W], or [H, W, channels] with grey, grey and alpha, RGB or RGBA, of any dtype. Unsigned integers of 8
and 16 bits are fractions of their largest value, and numbers in [0, 1] are brightnesses; other numbers are scaled to
that range. Transparent pixels are white. Ink may be dark on light or light on dark, but must cover less than half of
the picture, otherwise the paper is taken for the ink. Light may be uneven, and shadows may fall on the page. A sheet of
paper on a darker table is found, and only the sheet is read. Printed lines thinner than the strokes are removed,
however dark they are; so are underlines, frames around digits that they do not touch, and filled spots such as punched
holes. Lines as thick as the strokes that run through digits are refused; digits that touch each other or a frame are
not separated.

All functions raise ValueError for a picture of another shape, with NaN or infinity, without ink, or with more than
`MOST` separate strokes, and TypeError for objects that are not arrays of real numbers.
"""

from jnn.pictures.paper import FAINT, STRONG
from jnn.pictures.photo import LARGEST, Picture, ink
from jnn.pictures.strokes import BESIDE, FIT, MOST, SIDE, Digits, Page, digits, find, normalise, page

__all__ = [
    "BESIDE",
    "FAINT",
    "FIT",
    "LARGEST",
    "MOST",
    "SIDE",
    "STRONG",
    "Digits",
    "Page",
    "Picture",
    "digits",
    "find",
    "ink",
    "normalise",
    "page",
]
