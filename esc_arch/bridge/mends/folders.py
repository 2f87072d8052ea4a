"""Folders that make room for those of a new run."""

from __future__ import annotations

import functools
import os
import time


def rename_to_a_name_that_is_free() -> None:
    """Wait for a name that is free before an earlier folder is renamed.

    `mkdir_and_rename` calls it by the time in seconds, and ends in a stack trace if a run within the same second, such
    as one of a script that goes through many, did that before.
    """
    import basicsr.train
    from basicsr import utils
    from basicsr.utils import misc

    original = misc.mkdir_and_rename

    @functools.wraps(original)
    def mkdir_and_rename(path: str) -> None:
        while os.path.exists(path) and os.path.exists(f"{path}_archived_{misc.get_time_str()}"):
            time.sleep(0.05)
        original(path)

    for module in (misc, utils, basicsr.train):
        module.mkdir_and_rename = mkdir_and_rename
