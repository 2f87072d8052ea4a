"""Networks without numbers: what names and shapes their weights have, in no memory and little time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from esc_arch.common.machine import memory_of_machine

BYTES = 4  # of a number in single precision
MOST_PARTS = 50_000  # of a network; the largest here has some thousands

_FILLED = {torch.rand, torch.randn, torch.zeros, torch.ones}
_IN_PLACE = {"zero_", "fill_", "normal_", "uniform_", "clamp_", "mul_", "add_", "copy_", "__setitem__"}
_ELEMENTWISE = {"add", "sub", "mul", "div", "neg", "exp", "expm1", "log", "clamp"}


def blueprint(network: type[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network on the device `meta`, whatever its shapes are; nothing can be computed with it.

    For arithmetic on that device torch imports its compiler and SymPy, which takes as long as enlarging a picture. So
    what has no influence on shapes is left out.
    """
    with torch.device("meta"), _Numberless():
        return network(**arguments)


class TooLargeError(Exception):
    """Ends a constructor; the message lacks which network it is."""


@contextmanager
def counted(allowed: int | None = None) -> Iterator[None]:
    """Count what modules are given, and end their construction where it is too much.

    Args:
        allowed: bytes that their weights may take; None is the memory of the machine.

    Raises:
        TooLargeError: what is built needs more memory than allowed, or has more parts than can be built.
    """
    most, taken, parts = memory_of_machine() if allowed is None else allowed, 0, 0

    def count(_module: nn.Module, _name: str, given: Any) -> None:
        nonlocal taken, parts
        parts += 1
        if parts > MOST_PARTS:
            raise TooLargeError(f"it has more than {MOST_PARTS} parts")
        if isinstance(given, torch.Tensor) and not is_lazy(given):  # whose shape comes with the first image
            taken += given.numel() * BYTES
        if taken > most:
            gigabytes = f"{taken / 2**30:.0f} GiB and more"
            raise TooLargeError(f"its weights need {gigabytes}, and this machine has {most / 2**30:.0f}")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Numberless(TorchFunctionMode):
    """Gives tensors of the right shape where only their numbers would be computed."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", None)
        if func in _FILLED:
            return torch.empty(*args, **kwargs)
        if func is torch.arange and not kwargs:
            return torch.empty(len(range(*map(int, args))))
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        if name in _IN_PLACE:
            return args[0]
        if name in _ELEMENTWISE:
            shapes = [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]
            return torch.empty(np.broadcast_shapes(*shapes))
        if func is torch.stack:
            return _stacked(*args, **kwargs)
        if name == "repeat":
            return _repeated(*args, **kwargs)
        return func(*args, **kwargs)


def _stacked(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    shape = list(tensors[0].shape)
    shape.insert(dim if dim >= 0 else dim + len(shape) + 1, len(tensors))
    return torch.empty(shape)


def _repeated(tensor: torch.Tensor, *repeats: int) -> torch.Tensor:
    times: Sequence[int] = repeats[0] if isinstance(repeats[0], Sequence) else repeats
    shape = (1,) * (len(times) - tensor.dim()) + tuple(tensor.shape)
    return torch.empty([side * count for side, count in zip(shape, times, strict=True)])
