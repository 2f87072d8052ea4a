"""What a command found, and how it is written: a picture for the screen, one for print, and all the numbers."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from esc_arch.analyze.photographs import Array
from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing

SUFFIXES = (".png", ".pdf", ".npz", ".json")
DPI = 300
Step = Callable[[], None]  # one of the steps of a bar is done


@dataclass(frozen=True)
class Result:
    """What was found.

    Args:
        figure: of matplotlib.
        arrays: all numbers behind it, by name.
        summary: what is said in words and few numbers.
        sentences: what is printed.
    """

    figure: Any
    arrays: dict[str, Array]
    summary: dict[str, Any]
    sentences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """What remains to be done when everything that the user gave has been looked at.

    Args:
        steps: how often `run` calls its argument.
        run: computes and draws.
    """

    steps: int
    run: Callable[[Step], Result]


def stem_of(output: str, what: str) -> str:
    """Say under which path, without a suffix, the files are written.

    Args:
        output: a folder, or a file with one of the suffixes.
        what: the kind of figure.
    """
    stem, suffix = os.path.splitext(output)
    return stem if suffix.lower() in SUFFIXES else os.path.join(output, what)


def write(result: Result, stem: str, dpi: int = DPI) -> list[str]:
    """Write the picture, twice, and its numbers, twice; each file takes its name when it is whole.

    Args:
        result: what was found.
        stem: path without a suffix.
        dpi: pixels per inch of the PNG.

    Returns:
        the paths.

    Raises:
        UserError: a file cannot be written.
    """
    png, pdf, npz = io.BytesIO(), io.BytesIO(), io.BytesIO()
    result.figure.savefig(png, format="png", dpi=dpi, metadata={"Software": None})
    result.figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    np.savez_compressed(npz, **result.arrays)  # type: ignore[arg-type]
    text = json.dumps(result.summary, indent=2, allow_nan=False, default=_plain) + "\n"
    contents = [png.getvalue(), pdf.getvalue(), npz.getvalue(), text.encode()]
    files = [stem + suffix for suffix in SUFFIXES]
    for file, content in zip(files, contents, strict=True):
        with replacing(file) as stream:
            stream.write(content)
    return files


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not written as JSON")


def require_extra(*modules: str) -> None:
    """Check that the libraries of the figures are there.

    Raises:
        UserError: one is missing.
    """
    import importlib.util

    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{module} is missing, which figures need: pip install 'esc_arch[analyze]'.")
