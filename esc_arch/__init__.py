"""ESC (ICCV 2025) and its relatives as a BasicSR plugin: importing this package registers the networks."""

from esc_arch import plugin
from esc_arch.archs import ESC, ESCFP
from esc_arch.layers import ConvAttn, DecomposedConvAttn
from esc_arch.version import __version__

__all__ = ["ESC", "ESCFP", "ConvAttn", "DecomposedConvAttn", "__version__"]

plugin.attach()
