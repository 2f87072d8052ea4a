"""Warnings that say nothing of use, again and again."""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any


def drop_multiple_validation_warning() -> None:
    """Drop the warning that several validation sets work with SRModel only, at every validation.

    `basicsr.train` prints it whatever the model is; every model of this package and every image model of BasicSR is an
    SRModel.
    """

    def keep(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Multiple validation datasets are *only* supported by SRModel")

    logging.getLogger("basicsr").addFilter(keep)


def drop_stride_warning() -> None:
    """Drop the warning of distributed training that the strides of a gradient are not those of its bucket.

    torch compares the strides of dimensions of size one too, which mean nothing. The gradients of depthwise
    convolutions (E, 1, 3, 3), of which these networks are full, differ in nothing else.
    """
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")


def drop_vgg_warnings() -> None:
    """Drop the warnings of torchvision about the way in which BasicSR asks it for VGG, in two lines for each loss."""
    warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated")
    warnings.filterwarnings("ignore", message="Arguments other than a weight enum or `None` for 'weights'")


def find_own_parts_without_a_word() -> None:
    """Let BasicSR find `RealESRGANDataset` and what else it calls `..._basicsr` without saying that it was not found.

    It prints that line whenever the part is looked up, several times in every run; users look for a mistake of theirs.
    """
    from basicsr.utils.registry import Registry

    get = Registry.get

    @functools.wraps(get)
    def wrapper(self: Any, name: str, suffix: str = "basicsr") -> Any:
        own = f"{name}_{suffix}"
        return get(self, own if name not in self and own in self else name, suffix)

    Registry.get = wrapper
