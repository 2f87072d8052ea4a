"""Folders of pictures, as the disk lists them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from esc_arch.common.leftovers import is_leftover


def pass_over_leftovers() -> None:
    """Let data sets pass over what Windows leaves in folders (Thumbs.db, desktop.ini), and take the rest by name.

    BasicSR takes every file of a folder whose name does not begin with a dot for a picture, and stops at the first that
    is none. `PairedImageDataset` takes them in the order in which the disk lists them, so that the same data on another
    disk are another training, also where one is resumed there.
    """
    import basicsr.utils
    from basicsr.data import data_util, single_image_dataset

    for module in (basicsr.utils, data_util, single_image_dataset):
        module.scandir = _without_leftovers(module.scandir)


def _without_leftovers(scandir: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
    @functools.wraps(scandir)
    def wrapper(*args: Any, **kwargs: Any) -> Iterator[str]:
        return iter(sorted(path for path in scandir(*args, **kwargs) if not is_leftover(path)))

    return wrapper
