"""Converts parameters: recurrent cells of torch, safetensors files, the networks of Nielsen's book."""

from jnn.convert.files import export, load, metadata
from jnn.convert.network2 import export_network2, load_network2
from jnn.convert.recurrent import Cell, from_torch, to_torch

__all__ = ["Cell", "export", "export_network2", "from_torch", "load", "load_network2", "metadata", "to_torch"]
