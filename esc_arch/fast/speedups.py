"""Switches of what makes the layers fast; all of them leave the function as it is.

Everything is on by default. The switches are there to measure what each is worth, and to count the operations of the
network as it is defined.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar


@dataclasses.dataclass(frozen=True)
class Speedups:
    """Which ways of computing may be taken; with none, operations are those of the definition, one by one.

    Attributes:
        channels_last: on a CPU, features lie in memory with their channels last.
        composed: the last 1x1 convolution of a ConvFFN and that of the ConvAttn behind it become one.
        strips: with `composed` and without gradients, images are processed in strips that stay in the cache.
        transform: on a CPU, the averaged large kernel is applied after a transform along the columns of the image.
        merged: for a single image, the dynamic kernel is added to the large one instead of convolving twice.
        lean_attention: on a CPU, fused attention goes head by head, and its gradients are computed without storing
            the scores.
        kernels: on a CPU, in float32 or under autocast to bf16, attention, ConvFFNs, convolutions and GELU are
            computed by compiled kernels, where they were compiled at installation; in place of `lean_attention` and
            `transform`, where they fit.
    """

    channels_last: bool = True
    composed: bool = True
    strips: bool = True
    transform: bool = True
    merged: bool = True
    lean_attention: bool = True
    kernels: bool = True

    @classmethod
    def none(cls) -> Speedups:
        """All switched off."""
        return cls(**{field.name: False for field in dataclasses.fields(cls)})


_ACTIVE: ContextVar[Speedups] = ContextVar("speedups", default=Speedups())  # noqa: B039 (it is frozen)


def active() -> Speedups:
    """Return the switches as they are set here."""
    return _ACTIVE.get()


@contextlib.contextmanager
def use(speedups: Speedups) -> Iterator[None]:
    """Set the switches within a `with` statement, in this thread."""
    token = _ACTIVE.set(speedups)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
