"""Kernels for CPUs, in C++: what plain operators of PyTorch cannot keep in the cache or in registers.

They are compiled when the package is installed, if there is a compiler; without them everything runs, slower. They are
operators of PyTorch, `torch.ops.esc_arch.*`, so profilers see them, and torch says so where one cannot be used.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import sysconfig
from pathlib import Path

import torch

INTERFACE = 1  # of the functions that are declared here; a library left from another version is not used
WIDEST = 16  # floats in the widest vectors made use of
WINDOW_MULTIPLE = 16  # sides of windows that the attention is made for


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the kernels; None if they were not compiled, are of another version, or do not run on this machine."""
    name = "_kernels" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
    # in a clone Python takes the sources that lie there, but the installation is where the library is
    folders = [Path(__file__).parent, *(Path(path) / "esc_arch" / "kernels" for path in sys.path)]
    libraries = (_load(folder / name) for folder in folders if (folder / name).is_file())
    return next((library for library in libraries if library is not None), None)


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(path.resolve()))
        if library.esc_interface() != INTERFACE or library.esc_lanes(WIDEST) == 0:
            return None
    except (OSError, AttributeError):  # torch has no OpenMP for it, or it is no library of ours
        return None
    size, number, pointer = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p
    library.esc_attention_workspace.argtypes = [number] * 3
    library.esc_attention_workspace.restype = size
    library.esc_attend.argtypes = [size] + [number] * 6 + [pointer] * 5
    library.esc_attend.restype = None
    library.esc_attend_gradients.argtypes = [size] + [number] * 6 + [pointer] * 8
    library.esc_attend_gradients.restype = None
    return library


def available() -> bool:
    """Tell whether the kernels can be used on this machine."""
    return library() is not None


def instructions() -> str | None:
    """Name the vectors that the kernels are made of on this machine, None if they cannot be used."""
    kernels = library()
    return None if kernels is None else f"vectors of {kernels.esc_lanes(WIDEST)} floats"


_OPERATORS = torch.library.Library("esc_arch", "DEF")
_OPERATORS.define("attend(Tensor qkv, Tensor table, int window, int heads, bool keep_sums) -> (Tensor, Tensor)")
_OPERATORS.define(
    "attend_gradients(Tensor grad, Tensor qkv, Tensor table, Tensor out, Tensor sums, int window, int heads)"
    " -> (Tensor, Tensor)"
)


def _attend(
    qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int, keep_sums: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within the windows of images.

    Args:
        qkv: (B, 3 * C, H, W), float32, channels last in memory, in the order (qkv, heads, head channels); H, W
            multiples of the window.
        table: biases (h, (2w - 1)^2), see `esc_arch.layers.window.RelativePositionBias`.
        window: side w, a multiple of WINDOW_MULTIPLE.
        heads: number of heads h.
        keep_sums: also return what the gradients need.

    Returns:
        (B, C, H, W), channels last in memory, and the logarithm (base 2) of the sum of every row of exponentials
        (B * H/w * W/w, h, w * w), empty unless asked for.
    """
    kernels, qkv, table = _ready(qkv, table, window)
    batch, channels, height, width = qkv.shape
    out = _empty_like(qkv, channels // 3)
    tokens = window * window
    sums = qkv.new_empty(batch * height * width // tokens if keep_sums else 0, heads, tokens)
    shape = batch, height, width, window, heads, channels // 3 // heads, torch.get_num_threads()
    memory = _workspace(kernels, shape, gradients=False)
    kernels.esc_attend(
        *shape,
        qkv.data_ptr(),
        table.data_ptr(),
        memory.data_ptr(),
        out.data_ptr(),
        sums.data_ptr() if keep_sums else None,
    )
    return out, sums


def _attend_gradients(
    grad: torch.Tensor,
    qkv: torch.Tensor,
    table: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    window: int,
    heads: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of `qkv` and `table` from that of `out`; arguments as of `_attend`."""
    kernels, qkv, table = _ready(qkv, table, window)
    grad = grad.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = qkv.shape
    grad_qkv = _empty_like(qkv, channels)
    tables = table.new_empty(sums.shape[0], *table.shape)  # one of every window, so that their sum has one order
    shape = batch, height, width, window, heads, channels // 3 // heads, torch.get_num_threads()
    memory = _workspace(kernels, shape, gradients=True)
    tensors = qkv, table, out, sums, grad, memory, grad_qkv, tables
    kernels.esc_attend_gradients(*shape, *(tensor.data_ptr() for tensor in tensors))
    return grad_qkv, tables.sum(0)


def _ready(qkv: torch.Tensor, table: torch.Tensor, window: int) -> tuple[ctypes.CDLL, torch.Tensor, torch.Tensor]:
    kernels = library()
    if kernels is None:
        raise RuntimeError("The kernels of esc_arch were not compiled at installation: no C++ compiler was found.")
    float32 = qkv.dtype == table.dtype == torch.float32
    if not float32 or window % WINDOW_MULTIPLE or qkv.shape[2] % window or qkv.shape[3] % window:
        raise RuntimeError(
            f"esc_arch::attend is for float32 and windows that fit the image and are multiples of {WINDOW_MULTIPLE}, "
            f"got {qkv.dtype}, {table.dtype}, window {window} and {tuple(qkv.shape)}."
        )
    return kernels, qkv.contiguous(memory_format=torch.channels_last), table.contiguous()


def _empty_like(image: torch.Tensor, channels: int) -> torch.Tensor:
    batch, _, height, width = image.shape
    return image.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _workspace(kernels: ctypes.CDLL, shape: tuple[int, ...], gradients: bool) -> torch.Tensor:
    _, _, _, window, _, depth, threads = shape
    return torch.empty(threads * kernels.esc_attention_workspace(window, depth, gradients))


_OPERATORS.impl("attend", _attend, "CPU")
_OPERATORS.impl("attend_gradients", _attend_gradients, "CPU")
