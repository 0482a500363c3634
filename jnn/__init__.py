"""jnn: the notes on neural networks, as pure functions over parameter pytrees.

The maths modules hold equations and nothing else; the machinery modules handle files, optimizers and devices and take
the maths as function arguments.

Maths: `activations`, `costs`, `mlp` and `backprop` (chapters 1 and 2); `perceptron` (the exercises of chapter 1);
`regularize`, `ridge`, `dropout`, `augment`, `receptive` and `stopping` (chapter 3); `universal` (chapter 4);
`recurrent`, `rnn`, `gru`, `lstm`, `language` and `gradient_flow` (chapter 5); `pictures` (from a photo to what MNIST
holds). Machinery: `train`, `parallel`, `checkpoint`, `convert`, `data`, `gradcheck` and `typing`.
"""

from jnn import (
    activations,
    augment,
    backprop,
    checkpoint,
    convert,
    costs,
    data,
    dropout,
    gradcheck,
    gradient_flow,
    gru,
    language,
    lstm,
    mlp,
    parallel,
    perceptron,
    pictures,
    receptive,
    recurrent,
    regularize,
    ridge,
    rnn,
    stopping,
    train,
    typing,
    universal,
)

__all__ = [
    "activations",
    "augment",
    "backprop",
    "checkpoint",
    "convert",
    "costs",
    "data",
    "dropout",
    "gradcheck",
    "gradient_flow",
    "gru",
    "language",
    "lstm",
    "mlp",
    "parallel",
    "perceptron",
    "pictures",
    "receptive",
    "recurrent",
    "regularize",
    "ridge",
    "rnn",
    "stopping",
    "train",
    "typing",
    "universal",
]
__version__ = "0.3.0"
