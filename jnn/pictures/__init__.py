"""A picture of handwriting, as a photo or a scan, to the images that MNIST holds.

`normalise` makes of a picture of one digit what a network trained on MNIST expects, by the rules that MNIST was made by
(LeCun et al., 1998): scaled to fit 20x20 pixels with its proportions kept, its centre of mass in the middle of 28x28.
`find` gives the box of each digit in a picture of several, and `digits` both:

    boxes, xs = pictures.digits(photo)
    probabilities = activations.softmax(jax.vmap(functools.partial(mlp.logits, hidden=relu), (None, 0))(params, xs))

They run on the host, on NumPy arrays, since what is connected to what depends on the values of the pixels.

`page` gives the lines of digits and what was left out, too.

A picture is [H, W], or [H, W, channels] with grey, grey and alpha, RGB or RGBA, of any dtype. Unsigned integers of 8
and 16 bits are fractions of their largest value, and numbers in [0, 1] brightnesses; others are scaled from their own
range to that. What is transparent is white. Ink may be dark on light or light on dark, but must cover less than half of
the picture, otherwise the paper is taken for the ink. The light may fall off across it, and shadows may fall on it. A
sheet of paper on a darker table is found, and only what is on it is read. Printed lines thinner than the strokes are
taken out, however dark they are; so are underlines, frames around digits that they do not touch, and filled spots such
as punched holes. Lines as thick as the strokes that run through digits are refused; digits that touch each other or a
frame are not separated.
"""

from jnn.pictures.paper import FAINT
from jnn.pictures.photo import LARGEST, Picture, ink
from jnn.pictures.strokes import BESIDE, FIT, MOST, SIDE, STRONG, Digits, Page, digits, find, normalise, page

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
