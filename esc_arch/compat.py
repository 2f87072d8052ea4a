"""What basicsr 1.4.2 (August 2022) needs to import and to run on today's torch, torchvision and lmdb.

Every mend is one function here: it first looks whether the thing is broken in the environment at hand, and leaves it
alone if not. `BEFORE_IMPORT` must run before `import basicsr`, `AFTER_IMPORT` patches named functions of it. BasicSR's
repository has seen no release since 1.4.2; remove a mend when a release makes it unnecessary.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import sys
import warnings
import zipfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from esc_arch.compat_degradation import degrade_on_the_device_of_the_model

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


def restore_functional_tensor() -> None:
    """Restore `torchvision.transforms.functional_tensor`, removed in torchvision 0.17.

    `basicsr.data.degradations` imports `rgb_to_grayscale` from it; the public function of the same name computes the
    same.
    """
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, "Stands in for the module that torchvision 0.17 removed.")
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module


def initialise_process_group_without_cuda() -> None:
    """Let `--launcher pytorch` run on a machine without a GPU.

    BasicSR picks the GPU by `rank % torch.cuda.device_count()` (a division by zero) and always asks for nccl.
    """
    if torch.cuda.is_available():
        return
    from basicsr.utils import dist_util

    def _init_dist_pytorch(backend: str, **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    dist_util._init_dist_pytorch = _init_dist_pytorch


def distribute_on_cpu() -> None:
    """Let BasicSR wrap a network that lives on the CPU for distributed training.

    `BaseModel.model_to_device` passes `torch.cuda.current_device()` to DistributedDataParallel.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.model_to_device

    @functools.wraps(original)
    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not (self.opt["dist"] and self.device.type == "cpu"):
            return original(self, net)
        return torch.nn.parallel.DistributedDataParallel(
            net.to(self.device), find_unused_parameters=self.opt.get("find_unused_parameters", False)
        )

    BaseModel.model_to_device = model_to_device


def resume_from_newest_whole_checkpoint() -> None:
    """Resume on any device, and from the newest checkpoint that can be read.

    BasicSR's `load_resume_state` asks for a CUDA device and takes the newest `.state` by name; after a crash that file,
    or the network that belongs to it, may be truncated.
    """
    import basicsr.train

    basicsr.train.load_resume_state = load_resume_state


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Load the training state to resume from; stands in for the function of the same name in `basicsr.train`.

    Args:
        opt: parsed options of BasicSR; `path.resume_state` and the pretrain paths are set as BasicSR does.

    Returns:
        the state, or None when there is nothing to resume from.

    Raises:
        ValueError: `path.resume_state` was given and cannot be read.
    """
    from basicsr.utils import check_resume

    if opt["auto_resume"]:
        folder = opt["path"]["training_states"]
        names = [n for n in os.listdir(folder) if n.endswith(".state")] if os.path.isdir(folder) else []
        candidates = [os.path.join(folder, n) for n in sorted(names, key=lambda n: -float(n[: -len(".state")]))]
    else:
        candidates = [opt["path"]["resume_state"]] if opt["path"].get("resume_state") else []

    for path in candidates:
        try:
            state = torch.load(path, map_location=_current_device(), weights_only=True)
            if opt["auto_resume"]:
                for file in _networks_of(opt, state["iter"]):
                    torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged pickle may raise anything at all
            reason = str(error).partition("\n")[0] or type(error).__name__
            if not opt["auto_resume"]:
                raise ValueError(f"path.resume_state: {path} cannot be read ({reason}).") from error
            print(f"Warning: the checkpoint of {path} is not whole ({reason}); trying the one before it.", flush=True)
            continue
        opt["path"]["resume_state"] = path
        check_resume(opt, state["iter"])
        return state
    return None


def _current_device() -> str:
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def _networks_of(opt: dict[str, Any], iteration: int) -> list[str]:
    labels = [key.removeprefix("network_") for key in opt if key.startswith("network_")]
    return [os.path.join(opt["path"]["models"], f"net_{label}_{iteration}.pth") for label in labels]


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


def share_lmdb_environments() -> None:
    """Let two datasets of one process read the same LMDB.

    lmdb 3 refuses to open an environment that is already open in the process, which BasicSR does when training and
    validation use the same LMDB.
    """
    from basicsr.utils.file_client import FileClient, LmdbBackend

    from esc_arch import shared_lmdb

    class SharedLmdbBackend(LmdbBackend):
        """BasicSR's LMDB reader on environments that all readers of a process share."""

        def __init__(self, db_paths: str | list[str], client_keys: str | list[str] = "default", **options: Any) -> None:
            paths = db_paths if isinstance(db_paths, list) else [db_paths]
            clients = client_keys if isinstance(client_keys, list) else [client_keys]
            self.db_paths = [str(path) for path in paths]
            self._client = {
                client: shared_lmdb.environment(path, **options)
                for path, client in zip(self.db_paths, clients, strict=True)
            }

    FileClient._backends["lmdb"] = SharedLmdbBackend


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


BEFORE_IMPORT: list[Callable[[], None]] = [define_torchvision_operators, restore_functional_tensor]
AFTER_IMPORT: list[Callable[[], None]] = [
    initialise_process_group_without_cuda,
    distribute_on_cpu,
    resume_from_newest_whole_checkpoint,
    save_atomically,
    share_lmdb_environments,
    degrade_on_the_device_of_the_model,
    drop_multiple_validation_warning,
    drop_stride_warning,
]
