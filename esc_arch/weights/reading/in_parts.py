"""Checkpoints in several files, with an index that says what is where, as the libraries of Hugging Face write them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from esc_arch.common.errors import UserError

INDEX = ".index.json"  # how its name ends
PART = re.compile(r"(.+)-\d+-of-\d+(\.[a-z]+)")  # model-00001-of-00002.safetensors


def read_parts(index: str, read: Callable[[str], Any]) -> dict[str, Any]:
    """Read all tensors that an index names.

    Args:
        index: its path; the parts lie beside it.
        read: reads one part.

    Returns:
        names and tensors.

    Raises:
        UserError: a part is missing or cannot be read, or lacks a tensor that the index says it has.
        ValueError: the index is no JSON.
    """
    with open(index, encoding="utf-8") as stream:
        content = json.load(stream)
    where = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(where, Mapping) or not where or not all(isinstance(part, str) for part in where.values()):
        raise UserError(f"{index} is the index of a checkpoint, but names no files; choose another checkpoint.")
    found: dict[str, Any] = {}
    for part in dict.fromkeys(where.values()):
        path = os.path.join(os.path.dirname(index), part)
        if os.path.basename(part) != part or not os.path.isfile(path):
            raise UserError(f"{index} names {part!r}, which is not there; put it beside the index.")
        tensors = read(path)
        names = [name for name, file in where.items() if file == part]
        lacking = [name for name in names if not isinstance(tensors, Mapping) or name not in tensors]
        if lacking:
            raise UserError(f"{path} lacks {lacking[0]}, which {index} says it has; copy or download both again.")
        found |= {name: tensors[name] for name in names}
    return found


def require_whole(file: str) -> None:
    """Raise UserError where a file is one part of several, and the index that names all is beside it."""
    folder, name = os.path.split(file)
    part = PART.fullmatch(name)
    index = os.path.join(folder, f"{part[1]}{part[2]}{INDEX}") if part else ""
    if index and os.path.isfile(index):
        raise UserError(f"{file} is one part of several; give {index}, which names them all.")
