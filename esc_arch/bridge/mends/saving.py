"""Writing checkpoints."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import replacing
from esc_arch.weights.recorded import entry_of, record_of

MORE_IN_STATE = "esc_arch"  # the key in a training state of what BasicSR does not keep


def save_atomically() -> None:
    """Write checkpoints beside their place first and rename them into it once they are whole, or say that it failed.

    BasicSR writes in place, so that a crash leaves a truncated file under a good name; and where the disk is full it
    gives up with a line in the log and trains on without checkpoints. Its three tries, a second apart, are kept.
    A model with a method `more_to_resume` adds what that returns to the state, and a network of this package is saved
    with its arguments, of which weights do not tell all.
    """
    from basicsr.models import base_model

    base_model.torch = _Torch()
    model = base_model.BaseModel
    model.save_network = _or_told(model.save_network, _arguments)
    model.save_training_state = _or_told(model.save_training_state, _more_to_resume)
    logging.getLogger("basicsr").addFilter(lambda record: not str(record.msg).startswith("Still cannot save"))


class _Torch:
    """The module `torch` as `basicsr.models.base_model` sees it, with a `save` of our own."""

    failure: BaseException | None = None  # of the latest try
    more: dict[str, Any] | None = None  # to be added to what is saved

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def save(self, content: dict[str, Any], path: str) -> None:
        content = {**content, **(self.more or {})}
        try:
            write_whole(content, path)
        except Exception as error:
            self.failure = error
            raise
        self.failure = None


def write_whole(content: Any, path: str) -> None:
    """Write a checkpoint in the place of an older one, whole or not at all.

    Args:
        content: what `torch.save` takes.
        path: the file; its folder is made anew if somebody removed it.

    Raises:
        UserError, RuntimeError: it cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as file:
        torch.save(content, file)  # through Python's file: torch's own does not say what the disk said


def _arguments(model: Any, net: Any, *_: Any, **__: Any) -> dict[str, Any]:
    first = net[0] if isinstance(net, list) else net  # the average is of the same
    return entry_of(record_of(model.get_bare_model(first)))


def _more_to_resume(model: Any, *_: Any, **__: Any) -> dict[str, Any]:
    return {MORE_IN_STATE: model.more_to_resume()} if hasattr(model, "more_to_resume") else {}


def _or_told(save: Callable[..., None], more: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    from basicsr.models import base_model
    from basicsr.utils.dist_util import master_only

    @functools.wraps(save)
    @master_only
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        seen = base_model.torch
        seen.failure, seen.more = None, more(self, *args, **kwargs)
        save(self, *args, **kwargs)
        if seen.failure is not None:
            raise CheckpointError(reason_of(seen.failure)) from seen.failure

    return wrapper


class CheckpointError(UserError):
    """A checkpoint could not be written; the message is the disk's reason."""


def reason_of(error: BaseException) -> str:
    """Find the disk's words, which torch covers by its own about a position in the file."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause).rstrip(".")
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror + (f": {cause.filename}" if cause.filename else "")
        cause = cause.__cause__ or cause.__context__
    return str(error).partition("\n")[0] or type(error).__name__
