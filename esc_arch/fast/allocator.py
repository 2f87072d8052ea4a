"""Memory on a CPU: what one layer frees is kept for the next."""

from __future__ import annotations

import functools

import torch

LARGEST = 2**25  # bytes: up to here glibc learns from what is freed, on 64-bit systems


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep up to twice `LARGEST` bytes of freed memory, once in a process.

    Features of a few MiB are allocated and freed all the time. glibc gives them back to the system as soon as the
    memory at the end of its heap exceeds twice the largest block that it has seen freed, and asks for them again, page
    by page, which costs up to a tenth of the time. So it is shown a large block, whose pages are never touched and
    cost nothing. Limits that are set by `MALLOC_TRIM_THRESHOLD_` and the like stay, and other allocators do not care.
    """
    torch.empty(LARGEST - 2**16, dtype=torch.uint8)
