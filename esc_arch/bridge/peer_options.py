"""Makes of an option file written for other code what can run here, and says what was changed."""

from __future__ import annotations

import os
from typing import Any

import torch

from esc_arch.common.paths import expand_in

Options = dict[str, Any]

# Arguments that the authors' code took at some time and that never changed what a network computes
DROPPED_ARGUMENTS = {"deployment": ("ESC", "ESCFP", "ESCReal", "ESCRealM", "ESCRIB")}


def adapt(opt: Options) -> list[str]:
    """Change options where they ask for what is not here, and nothing else depends on it.

    Args:
        opt: options with values read; it is changed.

    Returns:
        a sentence for each thing that the user may want to know.
    """
    for dataset in opt["datasets"].values():
        expand_in(dataset)
    said = _folders_without_their_list(opt)
    if not torch.cuda.is_available():  # torch would warn of every loader
        for dataset in opt["datasets"].values():
            dataset.pop("pin_memory", None)
    for section, network in opt.items():
        if section.startswith("network_") and isinstance(network, dict):
            for argument, types in DROPPED_ARGUMENTS.items():
                if network.get("type") in types and argument in network:
                    del network[argument]
                    said.append(f"{section}:{argument} has no meaning here and is ignored.")
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
