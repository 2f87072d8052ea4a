"""A training through BasicSR's pipeline: built before anything is written, resumed whole, stopped in order."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

from esc_arch.bridge import random_states
from esc_arch.bridge.mends.resuming import load_resume_state, newest_whole_state
from esc_arch.bridge.mends.saving import CheckpointError
from esc_arch.bridge.run import dry_run, pool
from esc_arch.bridge.run.building import Built, build
from esc_arch.bridge.run.failures import IN_A_ROW, Losses, check_finite, told
from esc_arch.bridge.run.feed import Abandoned, Feed, ValidationImages
from esc_arch.bridge.run.folder import ExperimentFolder
from esc_arch.bridge.run.processes import gathered, highest, said_by_first
from esc_arch.bridge.run.resumption import Resumption
from esc_arch.bridge.run.stand_ins import standing_in
from esc_arch.common.ending import Stopped
from esc_arch.common.errors import RunError, UserError
from esc_arch.common.interruptions import Interruptions

Options = dict[str, Any]
VALIDATION = "in the validation of iteration"
FINISHING = "the step is finished and a checkpoint saved; a second one ends the training at once."


class DryRunDone(Exception):  # noqa: N818  nothing is wrong
    """All that `--dry_run` asks for is done."""


class Training:
    """What `basicsr.train.train_pipeline` calls, while it is called."""

    def __init__(self) -> None:
        self.interruptions = Interruptions()
        self.reset_schedule = self.is_dry = False
        self.opt: Options = {}
        self.folder: ExperimentFolder | None = None
        self.built: Built | None = None
        self.resumption: Resumption | None = None
        self.random: list[random_states.States] = []  # of all processes, at the latest checkpoint
        self.iteration = self.total = 0
        self.ended = self.saved = -1  # iterations
        self.validated: set[tuple[int, int]] = set()  # loaders and iterations
        self.place = 0  # in the epoch: images of all processes
        self.phase = "before training"
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Stand in for functions of `basicsr.train` meanwhile, and say in a sentence what goes wrong."""
        import basicsr.train as module

        stand_ins: dict[str, Callable[..., Any]] = {
            "load_resume_state": self.prepare,
            "make_exp_dirs": self._make_folders(module.make_exp_dirs),
            "copy_opt_file": self._copy_options,
            "create_train_val_dataloader": self._give_loaders,
            "build_model": self._give_model,
            "init_tb_loggers": self._keep_tb_logger(module.init_tb_loggers),
            "MessageLogger": self._message_logger(module.MessageLogger),
            "CPUPrefetcher": self._feed(module.CPUPrefetcher),
            "CUDAPrefetcher": self._feed(module.CUDAPrefetcher),
        }
        self._make_loaders = module.create_train_val_dataloader
        # a log that cannot be written is no reason for a stack trace at every line: the next checkpoint tells
        logging.raiseExceptions, raises = False, logging.raiseExceptions
        try:
            with (
                standing_in(module, stand_ins),
                contextlib.suppress(DryRunDone),
                self._stack,
                told(lambda: self.opt, self.where, lambda: self.phase == VALIDATION),
            ):
                yield
        finally:
            logging.raiseExceptions = raises

    # ---- before anything is written

    def begin(self, opt: Options, args: Any) -> None:
        """Take note of the options, before they are checked."""
        self.opt = opt
        self.reset_schedule, self.is_dry = args.reset_schedule, args.dry_run
        self.folder = ExperimentFolder(opt, args.opt)
        if not self.is_dry:
            said_by_first(self.folder.refuse_if_used)

    def prepare(self, opt: Options) -> Options | None:
        """Load the state to resume from, and build all that training needs.

        Raises:
            UserError: something does not fit, or another training uses the folder.
        """
        assert self.folder is not None
        self.opt = opt
        state = load_resume_state(opt)
        self.resumption = Resumption(state, opt, self.folder.options, self.reset_schedule) if state else None
        self.built = built = build(opt, self.resumption, self._make_loaders)
        self.total = int(opt["train"]["total_iter"])
        self.iteration = self.ended = state["iter"] if state else 0
        self._watch(built.model)
        said_by_first(self.folder.check_writable)
        if self.is_dry:
            self._try()
            raise DryRunDone
        said_by_first(self.folder.take)
        self._stack.callback(self.folder.release)
        return state

    def _try(self) -> None:
        """Measure what the training will need, and print it."""
        assert self.built is not None
        began = self.iteration
        self.phase = "in the dry run, in iteration"
        needs = dry_run.measure(self.opt, self.built, self.interruptions, began)
        if self.losses.in_a_row:
            raise UserError(self._words_about_losses())
        if self.opt["rank"] == 0:
            warnings = self.resumption.warnings if self.resumption else []
            for line in (*(f"Warning: {w}" for w in warnings), *dry_run.describe(needs, self.opt, self.built, began)):
                print(line)
            print("Dry run done: nothing was written.", flush=True)

    def _make_folders(self, original: Callable[..., None]) -> Callable[..., None]:
        def make_exp_dirs(opt: Options) -> None:
            assert self.folder is not None
            original({**opt, "path": self.folder.paths})  # the section may hold what is no folder

        return make_exp_dirs

    def _copy_options(self, file: str, root: str) -> None:
        assert self.folder is not None
        if self.opt["rank"] == 0:
            self.folder.copy_options()

    # ---- handed out to the pipeline

    def _give_loaders(self, opt: Options, logger: Any) -> tuple[Any, ...]:
        assert self.built is not None
        self.built.log.replay()
        for warning in self.resumption.warnings if self.resumption else ():
            logger.warning(warning)
        if self.iteration >= self.total:
            logger.warning(
                f"The state that is resumed is of iteration {self.iteration} and total_iter is {self.total}: nothing "
                "is left to train."
            )
        built = self.built
        return built.train_loader, built.sampler, built.val_loaders, built.last_epoch, self.total

    def _give_model(self, opt: Options) -> Any:
        assert self.built is not None
        return self.built.model

    def _keep_tb_logger(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init_tb_loggers(opt: Options) -> Any:
            logger = original(opt)
            if logger is not None:
                self._stack.callback(_quietly, logger.close)  # what it holds is lost otherwise
            return logger

        return init_tb_loggers

    def _message_logger(self, original: type) -> Callable[..., Any]:
        def make(opt: Options, start_iter: int = 1, tb_logger: Any = None) -> Any:
            # BasicSR counts a step less to the end, and one more that was made
            logger = original(opt, start_iter + 1, tb_logger)
            logger.max_iters += 1
            return logger

        return make

    def _feed(self, prefetcher: type) -> Callable[..., Feed]:
        return lambda *args: Feed(lambda: prefetcher(*args), self)

    # ---- in the loop

    def where(self) -> str:
        """Say where training is, and what it can go on from."""
        place = f"{self.phase} {self.iteration} of {self.total}" if self.total else "before training"
        return f"{place}; {self.newest()}" if self.iteration else place

    def newest(self) -> str:
        """Say what to go on from."""
        state = newest_whole_state(self.opt)
        return (
            f"the newest whole checkpoint is {state}, from which --auto_resume goes on"
            if state
            else "no checkpoint was written yet"
        )

    def begin_epoch(self) -> bool:
        """Begin with the random states of the one that is resumed, and from now on finish a step at a signal."""
        assert self.built is not None
        if self.phase == "before training":
            self.phase = "in iteration"
            self._stack.enter_context(self.interruptions.awaited(FINISHING))
            if self.resumption is not None:
                self.resumption.put_random_states()
        self.place = self.built.sampler.first() * self.opt["world_size"]
        return self.iteration < self.total

    def end_epoch(self) -> None:
        """Nothing is to be done: the next epoch begins by itself."""

    def begin_iteration(self) -> None:
        """Count."""
        assert self.built is not None
        self.iteration += 1
        self.place += self.built.train_loader.batch_size * self.opt["world_size"]

    def end_iteration(self) -> bool:
        """Keep the best figures, and stop where that is due.

        Raises:
            RunError: the losses are no numbers any more.
            Stopped: a signal came to this process or another one.
        """
        assert self.built is not None
        if self.iteration == self.ended:
            return self.iteration < self.total
        self.ended, model = self.iteration, self.built.model
        if self.saved == self.iteration and any(i == self.iteration for _, i in self.validated):
            with self._checkpoint():  # once more, with the figures of the validation
                model.save_training_state(self.built.sampler.epoch, self.iteration)
        is_over = self.iteration >= self.total
        limit = 1 if is_over else IN_A_ROW
        lost, number = highest(self.opt, self.losses.in_a_row >= limit, self.interruptions.number or 0)
        if lost:
            raise UserError(self._words_about_losses())
        if number and not is_over:
            if self.saved != self.iteration:
                model.save(self.built.sampler.epoch, self.iteration)
            raise Stopped(number, f"iteration {self.iteration} of {self.total} is done, and {self.newest()}")
        return not is_over

    def _words_about_losses(self) -> str:
        rates = self.built.model.get_current_learning_rate() if self.built else [math.nan]
        return (
            f"the loss has not been a number for {self.losses.in_a_row} iterations up to {self.iteration} at learning "
            f"rate {rates[0]:.3e} ({self.losses.first}); lower the rate, lengthen warmup_iter or set train: "
            f"gradient_clip; {self.newest()}."
        )

    # ---- around the methods of the model

    def _watch(self, model: Any) -> None:
        self.losses = Losses(model)
        for name in ("optimize_parameters", "save", "validation"):
            setattr(model, name, getattr(self, f"_{name}")(getattr(model, name)))
        model.more_to_resume = self.more_to_resume

    def _optimize_parameters(self, original: Callable[..., None]) -> Callable[..., None]:
        def optimize_parameters(current_iter: int) -> None:
            assert self.built is not None
            original(current_iter)
            model = self.built.model
            self.losses.look(current_iter, model.get_current_log(), model.get_current_learning_rate())

        return optimize_parameters

    def _save(self, original: Callable[..., None]) -> Callable[..., None]:
        def save(epoch: int, current_iter: int) -> None:
            assert self.built is not None
            if any(highest(self.opt, self.losses.in_a_row)):
                logging.getLogger("basicsr").warning("Nothing is saved while the loss is not a number.")
                return
            with self._checkpoint():
                check_finite(self.built.model)
                with pool.kept_beside(self.built.model, current_iter):
                    self.random = gathered(self.opt, random_states.get())  # when all have written their pool
                    original(epoch, current_iter)
            self.saved = current_iter

        return save

    @contextlib.contextmanager
    def _checkpoint(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            raise RunError(
                f"the checkpoint of iteration {self.iteration} cannot be written ({error}), so training stops; "
                f"{self.newest()}."
            ) from error
        except RunError as error:
            raise RunError(f"iteration {self.iteration}: {error}; {self.newest()}.") from error

    def _validation(self, original: Callable[..., None]) -> Callable[..., None]:
        def validation(loader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
            mark = id(loader), current_iter
            if mark in self.validated:  # the loop validates the last weights once more
                return
            self.phase = VALIDATION
            try:
                with random_states.kept(cuda=True):
                    original(ValidationImages(loader, self.interruptions), current_iter, tb_logger, save_img)
            except RunError:
                raise
            except UserError as error:  # a picture that cannot be written, or a metric that refuses
                raise RunError(f"{str(error).rstrip('.')} ({self.where()}).") from error
            except Abandoned:
                if self.iteration >= self.total:
                    words = "training is complete and its weights are saved, but for the last validation"
                    raise Stopped(self.interruptions.number or 0, words) from None
            self.phase = "in iteration"
            self.validated.add(mark)

        return validation

    def more_to_resume(self) -> Options:
        """Return what a state holds besides BasicSR's."""
        assert self.built is not None
        return self.built.more_to_resume(self.opt, self.place, self.random)


def _quietly(close: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        close()
