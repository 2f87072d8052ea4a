"""ESC (ICCV 2025) and its relatives as a BasicSR plugin: importing this package registers the networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from esc_arch.common import guard  # noqa: F401  before all that takes time

# isort: split
from esc_arch import errors
from esc_arch.archs import ESC, ESCFP, ESCLTE, ESCRIB, ESCReal, ESCRealM
from esc_arch.bridge import plugin
from esc_arch.fast import ways
from esc_arch.layers import ConvAttn, DecomposedConvAttn
from esc_arch.version import __version__

if TYPE_CHECKING:
    from esc_arch.upscale.array import upscale_image
    from esc_arch.weights.loading import bundled_names, load
    from esc_arch.weights.spandrel_plugin import register_spandrel

__all__ = [
    "ESC",
    "ESCFP",
    "ESCLTE",
    "ESCRIB",
    "ConvAttn",
    "DecomposedConvAttn",
    "ESCReal",
    "ESCRealM",
    "__version__",
    "bundled_names",
    "errors",
    "load",
    "register_spandrel",
    "upscale_image",
]

_ON_FIRST_USE = {
    "bundled_names": "esc_arch.weights.loading",
    "load": "esc_arch.weights.loading",
    "register_spandrel": "esc_arch.weights.spandrel_plugin",
    "upscale_image": "esc_arch.upscale.array",
}


def __getattr__(name: str) -> Any:
    """Import what training does not need on first use."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)


ways.attach()
plugin.attach()
