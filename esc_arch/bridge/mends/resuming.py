"""Reading training states."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import torch

from esc_arch.common.errors import UserError

Options = dict[str, Any]
KEYS_OF_STATE = ("iter", "epoch", "optimizers", "schedulers")


def resume_from_newest_whole_checkpoint() -> None:
    """Resume on any device, and from the newest checkpoint that can be read.

    BasicSR's `load_resume_state` asks for a CUDA device and takes the newest `.state` by name; after a crash that file,
    or the network that belongs to it, may be truncated. `--auto_resume` makes it forget a `path: resume_state`.
    """
    import basicsr.train

    basicsr.train.load_resume_state = load_resume_state


def load_resume_state(opt: Options) -> Options | None:
    """Load the training state to resume from; stands in for the function of the same name in `basicsr.train`.

    Args:
        opt: parsed options of BasicSR; `path.resume_state` and the pretrain paths are set as BasicSR does.

    Returns:
        the state, or None when there is nothing to resume from.

    Raises:
        UserError: `path.resume_state` was given and cannot be used, or none of the states of the experiment can.
    """
    if opt["auto_resume"]:
        folder = opt["path"]["training_states"]
        states, strangers = list_states(folder)
        reasons = []
        for path in states:
            try:
                state = _resume(opt, path, opt["path"]["models"], True)
                if strangers:
                    print(f"Warning: {_strange(folder, strangers)}, so it is passed over.", flush=True)
                return state
            except UserError as error:
                reasons.append(str(error))
                print(f"Warning: {error}; trying the one before it.", flush=True)
        if states or strangers:
            reason = reasons[0] if reasons else _strange(folder, strangers)
            raise UserError(
                f"--auto_resume: none of the states in {folder} can be used ({reason}); move the experiment away to "
                "start anew."
            )
        if not opt["path"].get("resume_state"):
            print(f"--auto_resume: there is nothing to resume in {folder}; training starts anew.", flush=True)
    path = opt["path"].get("resume_state")
    if not path:
        return None
    if not isinstance(path, str) or not os.path.isfile(path):
        is_folder = isinstance(path, str) and os.path.isdir(path)
        raise UserError(
            f"path:resume_state: {path} {'is a folder' if is_folder else 'does not exist'}; give the path of a .state "
            "file below training_states, or ~."
        )
    try:
        return _resume(opt, path, _folder_of_networks(opt, path), False)
    except UserError as error:
        raise UserError(f"path:resume_state: {error}; give another state, or use --auto_resume.") from error


def _strange(folder: str, names: list[str]) -> str:
    return f"{os.path.join(folder, names[0])} is not named by its iteration, as 5000.state"


def list_states(folder: str) -> tuple[list[str], list[str]]:
    """Return the states of an experiment, newest first, and those whose names are no iterations."""
    names = [n for n in os.listdir(folder) if n.endswith(".state")] if os.path.isdir(folder) else []
    stems = {name: name.removesuffix(".state") for name in names}
    numbered = sorted((name for name in names if stems[name].isdecimal()), key=lambda name: -int(stems[name]))
    strangers = [name for name in names if name not in numbered and not name.startswith(".")]
    return [os.path.join(folder, name) for name in numbered], strangers


def newest_whole_state(opt: Options) -> str | None:
    """Return the path of the newest state of the experiment that can be resumed from."""
    for path in list_states(opt["path"]["training_states"])[0]:
        try:
            read_state(opt, path, opt["path"]["models"], True)
        except UserError:
            continue
        return path
    return None


def read_state(opt: Options, path: str, models: str, whole: bool) -> Options:
    """Read a training state.

    Args:
        opt: parsed options.
        path: the `.state` file.
        models: the folder of the networks that belong to it.
        whole: read these too.

    Raises:
        UserError: the state or a network cannot be read, without full stop.
    """
    try:
        state = torch.load(path, map_location=_current_device(), weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything at all
        raise UserError(f"the checkpoint of {path} is not whole ({_reason(error)})") from error
    if not isinstance(state, dict) or any(key not in state for key in KEYS_OF_STATE):
        raise UserError(f"{path} is no training state of BasicSR: it lacks {', '.join(_lacking(state))}")
    wrong = [key for key in KEYS_OF_STATE if not _fits(state[key], key)]
    if wrong:
        raise UserError(f"{path} is no training state of BasicSR: its {wrong[0]} is not what it should be")
    for file in _networks_of(opt, models, state["iter"]):
        if not os.path.isfile(file):
            raise UserError(f"the checkpoint of {path} is not whole ({file}, its network, is missing)")
        if whole:
            try:
                torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:
                raise UserError(f"the checkpoint of {path} is not whole ({file}: {_reason(error)})") from error
    return state


def _resume(opt: Options, path: str, models: str, whole: bool) -> Options:
    from basicsr.utils import check_resume

    state = read_state(opt, path, models, whole)
    own = opt["path"]["models"]
    opt["path"]["resume_state"] = path
    opt["path"]["models"] = models
    try:
        check_resume(opt, state["iter"])
    finally:
        opt["path"]["models"] = own
    for label in _labels(opt):  # a network that does not fit would be left as it was drawn
        opt["path"][f"strict_load_{label}"] = True
    return state


def _folder_of_networks(opt: Options, state: str) -> str:
    """Find the networks of a state of this experiment or of another one."""
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(state))), "models")
    return beside if os.path.isdir(beside) else opt["path"]["models"]


def _labels(opt: Options) -> Iterator[str]:
    ignored = opt["path"].get("ignore_resume_networks") or []
    return (key.removeprefix("network_") for key in opt if key.startswith("network_") and key not in ignored)


def _networks_of(opt: Options, models: str, iteration: int) -> list[str]:
    return [os.path.join(models, f"net_{label}_{iteration}.pth") for label in _labels(opt)]


def _current_device() -> str:
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def _lacking(state: Any) -> list[str]:
    return [key for key in KEYS_OF_STATE if not isinstance(state, dict) or key not in state]


def _fits(value: Any, key: str) -> bool:
    if key in ("iter", "epoch"):
        return isinstance(value, int) and value >= 0
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _reason(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError) and "Weights only" in str(error):  # torch advises to run its code
        return "it holds Python objects other than numbers, or is damaged"
    if isinstance(error, EOFError) or "PytorchStreamReader" in str(error):  # the words of a library of archives
        return "it is empty, cut off or damaged"
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
