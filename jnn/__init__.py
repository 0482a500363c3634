"""jnn: the notes on neural networks, as pure functions over parameter pytrees.

A file is mathematics: equations and nothing else. A folder is a machine, which handles files, optimizers or devices and
takes the mathematics as function arguments.

Mathematics: `activations`, `costs`, `mlp` and `backprop` (chapters 1 and 2); `perceptron` (the exercises of chapter 1);
`metrics`; `regularize`, `ridge`, `dropout`, `augment`, `receptive` and `stopping` (chapter 3); `universal` (chapter 4);
`recurrent`, `cell`, `rnn`, `gru`, `lstm`, `language` and `gradient_flow` (chapter 5). Machines: `train`, `parallel`,
`checkpoint`, `convert`, `data`, `pictures` (from a photo to what MNIST holds) and `gradcheck`. The types of signatures
are in `typing`.
"""

# ruff: isort: off
# ruff: noqa: F401
from . import activations, backprop, costs, metrics, mlp, perceptron
from . import augment, dropout, receptive, regularize, ridge, stopping
from . import universal
from . import cell, gradient_flow, gru, language, lstm, recurrent, rnn
from . import checkpoint, convert, data, gradcheck, parallel, pictures, train, typing

__version__ = "0.3.0"
