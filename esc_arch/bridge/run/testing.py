"""A test through BasicSR's pipeline: built before anything is written, and what goes wrong told in a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from esc_arch.bridge.run.building import built
from esc_arch.bridge.run.failures import told
from esc_arch.bridge.run.feed import ValidationImages
from esc_arch.bridge.run.folder import RunFolder
from esc_arch.bridge.run.held_log import HeldLog
from esc_arch.bridge.run.processes import said_by_first
from esc_arch.bridge.run.stand_ins import standing_in
from esc_arch.common.interruptions import Interruptions

Options = dict[str, Any]


class Testing:
    """What `basicsr.test.test_pipeline` calls, while it is called."""

    def __init__(self) -> None:
        self.opt: Options = {}
        self.place = "before the test"
        self._folder: RunFolder | None = None
        self._log = HeldLog()
        self._model: Any = None
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Stand in for functions of `basicsr.test` meanwhile, and say in a sentence what goes wrong."""
        import basicsr.test as module

        self._build = module.build_model
        stand_ins = {"make_exp_dirs": self._prepare(module.make_exp_dirs), "build_model": self._give_model}
        failures = told(lambda: self.opt, lambda: self.place, lambda: self._model is not None)
        with standing_in(module, stand_ins), self._stack, failures:
            yield

    def begin(self, opt: Options, args: Any) -> None:
        """Take note of the options, before they are checked."""
        self.opt = opt
        self._folder = RunFolder(opt)
        said_by_first(self._folder.refuse_if_used)

    def _prepare(self, make_folders: Callable[[Options], None]) -> Callable[[Options], None]:
        def prepare(opt: Options) -> None:
            assert self._folder is not None
            with self._log.held():
                self._model = built("the options", lambda: self._build(opt))
            self._model.validation = self._validation(self._model.validation)
            said_by_first(self._folder.check_writable)
            said_by_first(self._folder.take)
            self._stack.callback(self._folder.release)
            make_folders({**opt, "path": self._folder.paths})  # the section may hold what is no folder

        return prepare

    def _give_model(self, opt: Options) -> Any:
        self._log.replay()
        return self._model

    def _validation(self, original: Callable[..., None]) -> Callable[..., None]:
        def validation(loader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
            self.place = f"in the test on {loader.dataset.opt['name']}"
            images = ValidationImages(loader, Interruptions(), then="test again")
            original(images, current_iter, tb_logger, save_img)

        return validation
