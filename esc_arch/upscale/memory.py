"""How much memory is free, and the largest tile that fits into it."""

from __future__ import annotations

import contextlib
import sys

import torch

from esc_arch.common.launch import launched
from esc_arch.upscale.network import Enlarger

UNKNOWN = 2 * 2**30  # taken as free where the system does not tell
SHARE = 0.5  # of what is free, for the network
LARGEST, SMALLEST = 512, 64  # sides of a tile: larger ones are not faster, smaller ones are mostly overlap
OVERLAP = 32
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory(device: str = "cpu") -> int:
    """Find out how many bytes can be had, within the limits of the container and of the process.

    Of what several processes share that were started together, each gets its part.
    """
    beside = launched().local_size
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0] // -(-beside // torch.cuda.device_count())
    free = [_field("/proc/meminfo", "MemAvailable")]
    for limit, used in CGROUPS:
        if (most := _number(limit)) is not None and (now := _number(used)) is not None:
            free.append(max(most - now, 0))
    free = [size // beside for size in free if size is not None]
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY and (now := _field("/proc/self/status", "VmSize")) is not None:
            free.append(max(most - now, 0))
    return min((size for size in free if size is not None), default=UNKNOWN)


def overlap_of(enlarger: Enlarger) -> int:
    """Return the overlap of tiles: at least OVERLAP pixels, and such that tiles start on the grid of windows."""
    return -(-OVERLAP // enlarger.grid) * enlarger.grid


def choose_tile(enlarger: Enlarger, width: int, free: int) -> int:
    """Choose the side of a tile.

    The memory of a network is estimated by its widest layer and by features of the size of the result. That is more
    than most networks need; where it is too little, the command halves the tile.

    Args:
        enlarger: the network.
        width: width of the image: a row of tiles of the result is kept.
        free: bytes that can be had.

    Returns:
        a multiple of the grid, at least twice the overlap.
    """
    per_pixel = _per_pixel(enlarger)
    per_row = 2 * 3 * 4 * width * enlarger.scale**2  # float32, and once more while it is rounded
    budget = SHARE * free
    tile = LARGEST
    while tile > SMALLEST and tile**2 * per_pixel + tile * per_row > budget:
        tile -= 32
    return fit_tile(enlarger, tile)


def most_together(enlarger: Enlarger, sides: tuple[int, int], tile: int | None) -> int:
    """Return how many images of a size fit into memory at once, none of them in tiles.

    Args:
        enlarger: the network.
        sides: H, W.
        tile: side of a tile that was asked for.
    """
    if max(sides) > (tile or LARGEST):
        return 1
    return max(int(SHARE * free_memory(str(enlarger.device)) / (sides[0] * sides[1] * _per_pixel(enlarger))), 1)


def _per_pixel(enlarger: Enlarger) -> float:
    """Estimate the bytes of a network for a pixel of the image."""
    return enlarger.dtype.itemsize * (16 * enlarger.widest + 64 * enlarger.scale**2)


def fit_tile(enlarger: Enlarger, tile: int) -> int:
    """Round the side of a tile down to the grid of windows, and up to twice the overlap."""
    return max(tile // enlarger.grid * enlarger.grid, 2 * overlap_of(enlarger))


def _field(file: str, name: str) -> int | None:
    """Read a size from a list of them in KiB, such as /proc/meminfo."""
    with contextlib.suppress(OSError), open(file) as lines:
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)
    return None


def _number(file: str) -> int | None:
    with contextlib.suppress(OSError, ValueError), open(file) as text:
        return int(text.read())
    return None
