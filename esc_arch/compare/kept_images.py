"""Keeps the images of a validation in folders, for metrics that score a whole folder."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def keeping(model: Any) -> Iterator[tuple[str, str]]:
    """Write what a model of BasicSR shows of every image of its validations.

    BasicSR could save the results itself, but under names that may be given twice, and not the GT, which may come from
    an LMDB or be cropped by the data set.

    Args:
        model: has `get_current_visuals`.

    Yields:
        temporary folders of the results and of GT, where there is one, as PNG of 8 bits.
    """
    from basicsr.utils import imwrite, tensor2img

    visuals, numbers = model.get_current_visuals, itertools.count()
    with tempfile.TemporaryDirectory(prefix="esc_arch_") as root:
        folders = {kind: os.path.join(root, kind) for kind in ("result", "gt")}

        def show() -> Any:
            shown, number = visuals(), next(numbers)
            for kind, folder in folders.items():
                if kind in shown:
                    imwrite(tensor2img([shown[kind]]), os.path.join(folder, f"{number:06}.png"))
            return shown

        model.get_current_visuals = show
        try:
            yield folders["result"], folders["gt"]
        finally:
            model.get_current_visuals = visuals
