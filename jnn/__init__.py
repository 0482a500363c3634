"""jnn: the notes on neural networks, as pure functions over parameter pytrees.

The maths modules hold equations and nothing else; the machinery modules know files, optimisers and devices and
take the maths as function arguments.

Maths: `jnn.activations`, `jnn.costs`, `jnn.mlp` and `jnn.backprop` (chapters 1 and 2), `jnn.perceptron` (the exercises
of chapter 1), `jnn.regularize`, `jnn.stopping` and `jnn.augment` (chapter 3), `jnn.universal` (chapter 4), `jnn.rnn`
and `jnn.lstm` (chapter 5). Machinery: `jnn.train`, `jnn.parallel`, `jnn.checkpoint`, `jnn.data` and `jnn.gradcheck`.
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
