"""Makes of an option file written for other code or another machine what can run here, and says what was changed."""

from __future__ import annotations

import os
from typing import Any

import torch

Options = dict[str, Any]

# Arguments that the authors' code took at some time and that never changed what a network computes
DROPPED_ARGUMENTS = {"deployment": ("ESC", "ESCFP", "ESCReal", "ESCRealM", "ESCRIB")}


def adapt(opt: Options) -> list[str]:
    """Change parsed options where they ask for what is not here, and nothing else depends on it.

    Args:
        opt: what BasicSR's `parse_options` returns; it is changed.

    Returns:
        a sentence for each thing that the user may want to know.
    """
    said = [*_fewer_gpus(opt), *_prefetch_without_gpu(opt), *_folders_without_their_list(opt)]
    if not opt["is_train"]:
        _say_what_a_test_writes(opt)
    for section, network in opt.items():
        if section.startswith("network_") and isinstance(network, dict):
            for argument, types in DROPPED_ARGUMENTS.items():
                if network.get("type") in types and argument in network:
                    del network[argument]
                    said.append(f"{section}:{argument} has no meaning here and is ignored.")
    return said


def _fewer_gpus(opt: Options) -> list[str]:
    wanted, there = opt.get("num_gpu"), torch.cuda.device_count()
    if not isinstance(wanted, int) or wanted <= there or opt["dist"]:
        return []
    opt["num_gpu"] = there
    sentence = f"num_gpu is lowered from {wanted} to {there}: this machine has no {'more ' if there else ''}GPU"
    batch = opt["datasets"].get("train", {}).get("batch_size_per_gpu") if opt["is_train"] else None
    if wanted > 1 and isinstance(batch, int):
        now = batch * max(there, 1)
        sentence += f"; the batch is then {now} images, not {batch * wanted} (see train:accumulate)"
    return [f"{sentence}."]


def _prefetch_without_gpu(opt: Options) -> list[str]:
    if opt.get("num_gpu") != 0 and torch.cuda.is_available():
        return []
    said = []
    for phase, dataset in opt["datasets"].items():
        if dataset.get("prefetch_mode") == "cuda":
            dataset["prefetch_mode"] = None
            said.append(f"datasets:{phase}:prefetch_mode cuda is ignored: no GPU is used.")
        if dataset.get("pin_memory"):
            dataset["pin_memory"] = False
    return said


def _folders_without_their_list(opt: Options) -> list[str]:
    """HAT's option files name a list that its repository lacks, and its RealESRGANDataset never reads."""
    said = []
    for phase, dataset in opt["datasets"].items():
        file = dataset.get("meta_info_file")
        if dataset.get("type") == "RealESRGANDataset" and isinstance(file, str) and not os.path.isfile(file):
            del dataset["meta_info_file"]
            said.append(
                f"datasets:{phase}:meta_info_file: {file} does not exist, so all images of "
                f"{dataset.get('dataroot_gt')} are taken."
            )
    return said


def _say_what_a_test_writes(opt: Options) -> None:
    """Older option files of BasicSR have `save_img` and `suffix` at the top level, and no section `val`."""
    if opt.get("val") is None:
        opt["val"] = {"save_img": bool(opt.pop("save_img", False)), "suffix": opt.pop("suffix", None)}
    elif isinstance(opt["val"], dict):
        opt["val"].setdefault("suffix", None)
