"""jnn: the notes on neural networks, as pure functions over parameter pytrees.

The maths modules hold equations and nothing else; the machinery modules know files, optimisers and devices and
take the maths as function arguments.
"""

from jnn import (
    activations,
    augment,
    backprop,
    checkpoint,
    costs,
    data,
    gradcheck,
    lstm,
    mlp,
    parallel,
    perceptron,
    regularize,
    rnn,
    stopping,
    train,
    universal,
)

__all__ = [
    "activations",
    "augment",
    "backprop",
    "checkpoint",
    "costs",
    "data",
    "gradcheck",
    "lstm",
    "mlp",
    "parallel",
    "perceptron",
    "regularize",
    "rnn",
    "stopping",
    "train",
    "universal",
]
__version__ = "0.1.0"
