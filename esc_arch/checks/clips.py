"""The frames that data sets of clips read: all of them are decoded before training, as pictures are."""

from __future__ import annotations

import os
from typing import Any

from esc_arch.checks.table import VIDEO, VIDEO_TEST

Options = dict[str, Any]
CLIPS = (*VIDEO, *VIDEO_TEST)
FRAMES_OF_REDS = 100  # of each clip, from which BasicSR draws whatever meta_info_file says
MIDDLE_OF_VIMEO = 4  # the frame whose GT is read


def frames_of(dataset: Options, built: Any) -> list[Options]:
    """List the frames of a data set of clips on the disk.

    Args:
        dataset: its section.
        built: the data set.

    Returns:
        frames by `lq_path` and, where GT of that frame is read, `gt_path`.
    """
    kind = dataset["type"]
    if kind in VIDEO_TEST:
        if kind == "VideoTestDUFDataset" and dataset.get("use_duf_downsampling"):
            return [{"gt_path": gt} for gt in built.data_info["gt_path"]]
        pairs = zip(built.data_info["lq_path"], built.data_info["gt_path"], strict=True)
        if kind != "VideoTestVimeo90KDataset":
            return [{"lq_path": lq, "gt_path": gt} for lq, gt in pairs]
        middle = dataset["num_frame"] // 2
        return [
            {"lq_path": lq, "gt_path": gt} if place == middle else {"lq_path": lq}
            for frames, gt in pairs
            for place, lq in enumerate(frames)
        ]
    if kind.startswith("REDS"):
        clips = dict.fromkeys(key.split("/")[0] for key in built.keys)
        names = [os.path.join(clip, f"{frame:08d}.png") for clip in clips for frame in range(FRAMES_OF_REDS)]
        return [_pair(dataset, name, True) for name in names]
    return [
        _pair(dataset, os.path.join(key, f"im{frame}.png"), "Recurrent" in kind or frame == MIDDLE_OF_VIMEO)
        for key in built.keys
        for frame in sorted(built.neighbor_list)
    ]


def _pair(dataset: Options, name: str, has_gt: bool) -> Options:
    roots = {"lq_path": "dataroot_lq", "gt_path": "dataroot_gt"}
    return {path: os.path.join(dataset[root], name) for path, root in roots.items() if has_gt or path == "lq_path"}
