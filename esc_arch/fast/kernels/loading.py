"""Finds the compiled library and declares its functions."""

from __future__ import annotations

import ctypes
import functools
import sys
import sysconfig
from pathlib import Path

import torch

INTERFACE = 8  # of the functions below; a library left from another version is not used
WIDEST = 16  # floats in the widest vectors made use of

_SIZE, _NUMBER, _FLOAT, _POINTER = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_float, ctypes.c_void_p
_FUNCTIONS = {
    "esc_attention_workspace": (_SIZE, [_NUMBER] * 3),
    "esc_attend": (None, [_SIZE] + [_NUMBER] * 6 + [_POINTER] * 5),
    "esc_attend_gradients": (None, [_SIZE] + [_NUMBER] * 6 + [_POINTER] * 8),
    "esc_attention_bf16_workspace": (_SIZE, [_NUMBER] * 2),
    "esc_attend_bf16": (None, [_SIZE] + [_NUMBER] * 6 + [_POINTER] * 5),
    "esc_conv_ffn_workspace": (_SIZE, [_NUMBER] * 4),
    "esc_conv_ffn": (None, [_SIZE] + [_NUMBER] * 6 + [_FLOAT] + [_POINTER] * 13 + [_NUMBER]),
    "esc_products_workspace": (_SIZE, [_NUMBER] * 3),
    "esc_products": (None, [_SIZE] + [_NUMBER] * 3 + [_FLOAT] + [_POINTER] * 7 + [_NUMBER] * 4),
    "esc_gelu": (None, [_SIZE, _NUMBER] + [_POINTER] * 3),
    "esc_gelu_bf16": (None, [_SIZE, _NUMBER] + [_POINTER] * 3),
    "esc_depthwise_workspace": (_SIZE, [_NUMBER] * 4),
    "esc_depthwise": (None, [_SIZE] + [_NUMBER] * 6 + [_POINTER] * 5 + [_NUMBER]),
    "esc_large_kernel_workspace": (_SIZE, [_NUMBER] * 7),
    "esc_large_kernel": (None, [_SIZE] + [_NUMBER] * 8 + [_POINTER] * 10 + [_NUMBER]),
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the kernels; None if they were not compiled, are of another version, or do not run on this machine."""
    name = "_kernels" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
    # in a clone Python takes the sources that lie there, but the installation is where the library is
    folders = [Path(__file__).parent, *(Path(path) / "esc_arch" / "fast" / "kernels" for path in sys.path)]
    libraries = (_load(folder / name) for folder in folders if (folder / name).is_file())
    return next((library for library in libraries if library is not None), None)


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(path.resolve()))
        if library.esc_interface() != INTERFACE or library.esc_lanes(WIDEST) == 0:
            return None
    except (OSError, AttributeError):  # torch has no OpenMP for it, or it is no library of ours
        return None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def available() -> bool:
    """Tell whether the kernels can be used on this machine."""
    return library() is not None


def has_bf16() -> bool:
    """Tell whether the kernels can multiply in bf16: the processor has instructions for it (AVX512_BF16)."""
    return most_channels_bf16() > 0


def most_channels_bf16() -> int:
    """Return how many channels may go into a product in bf16, 0 without instructions for it."""
    kernels = library()
    return 0 if kernels is None else int(kernels.esc_bf16())


def instructions() -> str | None:
    """Name the vectors that the kernels are made of on this machine, None if they cannot be used."""
    kernels = library()
    if kernels is None:
        return None
    return f"vectors of {kernels.esc_lanes(WIDEST)} floats" + (", bf16" if has_bf16() else "")


def required() -> ctypes.CDLL:
    """Return the library.

    Raises:
        RuntimeError: there is none.
    """
    kernels = library()
    if kernels is None:
        raise RuntimeError("The kernels of esc_arch were not compiled at installation: no C++ compiler was found.")
    return kernels


# Operators are defined by the modules beside this one.
OPERATORS = torch.library.Library("esc_arch", "DEF")


def images(batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Allocate images (B, C, H, W), channels last in memory."""
    return torch.empty(batch, height, width, channels, dtype=dtype).permute(0, 3, 1, 2)


def require_images(operator: str, *images: torch.Tensor | None) -> None:
    """Require channels last in memory; None is no image.

    Raises:
        RuntimeError: they are not.
    """
    for image in images:
        if image is not None and image.numel() and not image.is_contiguous(memory_format=torch.channels_last):
            raise RuntimeError(f"esc_arch::{operator} is for images whose channels lie last in memory.")


def require_shapes(operator: str, *expected: tuple[torch.Tensor | None, tuple[int, ...]]) -> None:
    """Require float32 of certain shapes; None has any.

    Raises:
        RuntimeError: one is of another dtype or shape.
    """
    for tensor, shape in expected:
        if tensor is not None and (tensor.shape != shape or tensor.dtype != torch.float32):
            raise RuntimeError(
                f"esc_arch::{operator} needs float32 of the shape {shape}, got {tensor.dtype} of the shape "
                f"{tuple(tensor.shape)}."
            )


def require_normalisation(operator: str, scale: torch.Tensor | None, shift: torch.Tensor | None) -> None:
    """Require both weights of a normalisation, or none.

    Raises:
        RuntimeError: there is only one.
    """
    if (scale is None) != (shift is None):
        raise RuntimeError(f"esc_arch::{operator} normalises with both scale and shift, or not at all.")


def require_bf16(operator: str, *channels: int) -> None:
    """Require that products are computed in bf16 into which so many channels go.

    Raises:
        RuntimeError: there is none on this machine, or not for so many.
    """
    most = most_channels_bf16()
    if max(channels) > most:
        why = f"at most {most} channels, got {max(channels)}" if most else "processors with AVX512_BF16"
        raise RuntimeError(f"esc_arch::{operator} in bf16 is for {why}.")
