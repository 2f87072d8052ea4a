"""Writing checkpoints."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Callable
from typing import Any


def save_atomically() -> None:
    """Write checkpoints to a folder beside their place first and rename them into it once they are whole.

    BasicSR writes in place, and gives up with a warning when the disk is full: a crash in between would leave a
    truncated file under a good name.
    """
    from basicsr.models.base_model import BaseModel

    BaseModel.save_network = _through_partial_folder(BaseModel.save_network, "models")
    BaseModel.save_training_state = _through_partial_folder(BaseModel.save_training_state, "training_states")


def _through_partial_folder(save: Callable[..., None], path_key: str) -> Callable[..., None]:
    from basicsr.utils.dist_util import master_only

    @functools.wraps(save)
    @master_only
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        paths = self.opt["path"]
        final = paths[path_key]
        partial = os.path.join(final, ".partial")
        os.makedirs(partial, exist_ok=True)
        for leftover in os.listdir(partial):
            os.remove(os.path.join(partial, leftover))
        paths[path_key] = partial
        try:
            save(self, *args, **kwargs)
        finally:
            paths[path_key] = final
        for name in os.listdir(partial):
            written = os.path.join(partial, name)
            if zipfile.is_zipfile(written):  # torch.save writes the zip directory last
                os.replace(written, os.path.join(final, name))
            else:
                os.remove(written)
        os.rmdir(partial)

    return wrapper
