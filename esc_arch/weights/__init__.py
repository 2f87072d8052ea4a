"""Checkpoints: read and written in either format, recognised from names and shapes, loaded by path or by name."""

from esc_arch.weights.files import convert, read_weights, write_weights
from esc_arch.weights.identify import Identity, identify, identify_at
from esc_arch.weights.loading import build, bundled_names, load

__all__ = [
    "Identity",
    "build",
    "bundled_names",
    "convert",
    "identify",
    "identify_at",
    "load",
    "read_weights",
    "write_weights",
]
