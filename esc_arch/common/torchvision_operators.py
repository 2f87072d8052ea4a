"""torchvision beside a torch that its compiled operators do not fit."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

_KEPT_ALIVE: list[Any] = []  # torch drops the operators of a Library that is garbage collected


def define_torchvision_operators() -> None:
    """Let torchvision import where its compiled operators cannot be loaded.

    A CPU build of torch beside a CUDA build of torchvision (there is no CPU build of it on PyPI) leaves the extension
    unloaded, which torchvision tolerates for all operators but `nms` and `qnms`: for these it registers shape
    functions unconditionally and fails with "operator torchvision::nms does not exist". Declaring their schemas is
    enough, because BasicSR uses none of them in super-resolution.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)
    importlib.import_module("torchvision")
