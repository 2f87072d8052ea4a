"""Reading training states."""

from __future__ import annotations

import os
from typing import Any

import torch


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
