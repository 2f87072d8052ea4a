"""Paths in option files, as people write them."""

from __future__ import annotations

import os
from typing import Any

PATHS_OF_DATA = ("dataroot_gt", "dataroot_lq", "dataroot_flow", "meta_info_file", "meta_info")


def expand(path: Any) -> Any:
    """Expand ~ and variables such as $SCRATCH in a path, or in all of a list; a $ in the name of what is there stays.

    Of an LMDB a slash at the end is taken off, behind which BasicSR does not know it.
    """
    if isinstance(path, list):
        return [expand(one) for one in path]
    if not isinstance(path, str):
        return path
    expanded = os.path.expanduser(path)
    if not os.path.exists(expanded):
        expanded = os.path.expandvars(expanded)
    plain = expanded.rstrip("/")
    return plain if plain.endswith(".lmdb") else expanded


def expand_in(dataset: dict[str, Any]) -> None:
    """Do so with the paths of a section of `datasets`; it is changed."""
    for key in PATHS_OF_DATA:
        if dataset.get(key):
            dataset[key] = expand(dataset[key])
