"""The folder of an experiment or of results, guarded while a run writes into it."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from esc_arch.checks.option_file import text_of
from esc_arch.common.errors import UserError
from esc_arch.common.lock import Lock
from esc_arch.common.whole_files import replacing, sweep

Options = dict[str, Any]
OF_TRAINING = ("experiments_root", "models", "training_states", "log", "visualization")
OF_TESTING = ("results_root", "log", "visualization")


class RunFolder:
    """The folder that a training or a test writes into.

    Args:
        opt: parsed options.
    """

    def __init__(self, opt: Options) -> None:
        self.run, names = ("training", OF_TRAINING) if opt["is_train"] else ("test", OF_TESTING)
        self.paths = {name: opt["path"][name] for name in names}
        self.root = self.paths[names[0]]
        self.name = opt["name"]
        self.lock = Lock(os.path.join(os.path.dirname(self.root), f".{os.path.basename(self.root)}.lock"))

    def refuse_if_used(self) -> None:
        """Look whether another training uses the folder; nothing is written.

        Raises:
            UserError: it does.
        """
        self._refuse(self.lock.holder())

    def take(self) -> None:
        """Lock the folder until `release`; the folder of all runs is made if it is not there.

        Raises:
            UserError: another training uses it, or it cannot be written.
        """
        parent = os.path.dirname(self.root)
        try:
            os.makedirs(parent, exist_ok=True)
            holder = self.lock.take()
        except OSError as error:
            raise UserError(f"{parent} cannot be written ({error.strerror}); start below another folder.") from error
        self._refuse(holder)

    def release(self) -> None:
        """Unlock the folder."""
        self.lock.release()

    def _refuse(self, holder: str | None) -> None:
        if holder is not None:
            raise UserError(
                f"a {self.run} of the name {self.name} runs already ({holder}) and writes into {self.root}; wait for "
                "its end, or choose another name in the options."
            )

    def check_writable(self) -> None:
        """Check that the folders can be made.

        Raises:
            UserError: one cannot.
        """
        for path in self._written():
            while not os.path.lexists(path):
                path = os.path.dirname(path)
            if not os.path.isdir(path):
                raise UserError(f"{path} is in the way: it must be a folder; move it, or start below another folder.")
            if not os.access(path, os.W_OK | os.X_OK):
                raise UserError(f"{path} cannot be written; change its permissions, or start below another folder.")

    def _written(self) -> list[str]:
        return [self.root]


class ExperimentFolder(RunFolder):
    """The folder that BasicSR writes an experiment into.

    Args:
        opt: parsed options.
        option_file: the file that they were read from, which may lie in the folder.
    """

    def __init__(self, opt: Options, option_file: str) -> None:
        super().__init__(opt)
        self.beside = os.path.join(opt.get("root_path", os.getcwd()), "tb_logger")
        self.option_file = os.path.basename(option_file)
        with open(option_file, "rb") as file:
            self.options = file.read()
        self.text = text_of(self.options)

    def _written(self) -> list[str]:
        return [self.root, os.path.join(self.beside, self.name)]

    def copy_options(self) -> None:
        """Write the option file into the folder as BasicSR does, which cannot copy a file over itself; in UTF-8.

        Raises:
            OSError: it cannot be written.
        """
        for path in self.paths.values():
            os.makedirs(path, exist_ok=True)
            sweep(path)
        head = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {' '.join(sys.argv)}\n\n"
        with replacing(os.path.join(self.root, self.option_file)) as file:
            file.write(head.encode("utf-8", "surrogateescape") + self.text.encode())
