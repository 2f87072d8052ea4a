"""Models and data sets are matched: what the tables say of them is what they do, and what does not match is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

from esc_arch.checks import batches
from esc_arch.checks.batches import GIVES, TRAINS_ON, VALIDATES_ON, check_batches
from esc_arch.checks.names import SUFFIX
from esc_arch.checks.table import DEGRADING_MODELS
from esc_arch.common.errors import UserError

Options = dict[str, Any]


def options(model: str, kind: str, phase: str = "train", **more: Any) -> Options:
    section = {"type": kind, "phase": phase.partition("_")[0], **more.pop("section", {})}
    return {"model_type": model, "datasets": {phase: section}, "is_train": True, "num_gpu": 0, "val": None, **more}


def test_all_models_and_data_sets_are_in_the_tables() -> None:
    models = {name.removesuffix(SUFFIX) for name, _ in MODEL_REGISTRY}
    assert set(GIVES) == {name.removesuffix(SUFFIX) for name, _ in DATASET_REGISTRY}
    assert set(TRAINS_ON) == models
    assert set(VALIDATES_ON) == models - {"StyleGAN2Model"}  # which draws samples


def frames(root: Path, clip: str, template: str, count: int, side: int) -> None:
    (root / clip).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8)
        assert cv2.imwrite(str(root / clip / template.format(index)), image)


def section_of(kind: str, root: Path) -> Options:
    """Write two clips or two pairs of 16 and 32 pixels, and the section of a training set of them."""
    listed = root / "list.txt"
    flags = {"use_hflip": False, "use_rot": False, "phase": "train", "scale": 2, "gt_size": 16}
    section: Options = {"name": "vid4", "type": kind, "dataroot_gt": str(root / "gt"), "io_backend": {"type": "disk"}}
    section.update(flags, mean=[0.5] * 3, std=[0.5] * 3, out_size=32)
    video = {
        "num_frame": 3,
        "val_partition": "official",
        "test_mode": False,
        "interval_list": [1],
        "dataroot_flow": None,
        "use_duf_downsampling": False,
    }
    video.update(random_reverse=False, flip_sequence=False, cache_data=True, padding="replicate")
    for part, side in (("gt", 32), ("lq", 16)):
        if kind.startswith("REDS"):
            frames(root / part, "100", "{:08d}.png", 100, side)
            listed.write_text("100 100 (32,32,3)\n")
        elif "Vimeo90K" in kind:
            frames(root / part, "a/b", "im{}.png", 8, side)
            listed.write_text("a/b 7 (32,32,3)\n")
        elif kind.startswith("Video"):
            frames(root / part, "a", "{}.png", 5, side)
        elif kind == "FFHQDataset":
            frames(root / part, "", "{:08d}.png", 2, side)
        elif kind == "RealESRGANDataset":
            frames(root / part, "", "{}.png", 2, 2 * side)
        else:
            frames(root / part, "", "{}.png", 2, side)
    if kind not in ("RealESRGANDataset", "FFHQDataset"):
        section["dataroot_lq"] = str(root / "lq")
    if "Video" in kind or kind.startswith(("REDS", "Vimeo")):
        section.update(video)
        section.pop("mean")
        if listed.exists():
            section["meta_info_file"] = str(listed)
    if kind == "VideoTestVimeo90KDataset":
        section.update(cache_data=False, num_frame=7)
    if kind == "RealESRGANDataset":
        blur = {"blur_kernel_size": 21, "kernel_list": ["iso"], "kernel_prob": [1], "sinc_prob": 0.1}
        blur |= {"blur_sigma": [0.2, 3], "betag_range": [0.5, 4], "betap_range": [1, 2]}
        section.update(blur, **{f"{key}2": value for key, value in blur.items()}, final_sinc_prob=0.5)
    return section


@pytest.mark.parametrize("kind", sorted(GIVES))
def test_data_sets_give_what_the_table_says(tmp_path: Path, kind: str) -> None:
    item = DATASET_REGISTRY.get(kind)(section_of(kind, tmp_path))[0]
    found = set()
    for name, plain, several in (("lq", batches.LQ, batches.LQ_FRAMES), ("gt", batches.GT, batches.GT_FRAMES)):
        if name in item:
            found.add(several if item[name].dim() == 4 else plain)
    if "kernel1" in item:
        found.add(batches.KERNELS)
    if "folder" in item:
        found.add(batches.CLIPS)
    assert found == set(GIVES[kind])


class Asked(dict[str, torch.Tensor]):
    """A batch that keeps the names that a model asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return SimpleNamespace(to=lambda device: torch.zeros(1, 3, 8, 8))

    def __contains__(self, name: object) -> bool:
        return True


@pytest.mark.parametrize("model", sorted(set(TRAINS_ON) - {"ESCLTEModel"}))  # that is an ESCModel in this
def test_models_read_what_the_table_says(model: str) -> None:
    asked = Asked()
    opt = {"high_order_degradation": True, "gt_usm": False, "scale": 2}
    stand_in = SimpleNamespace(is_train=True, opt=opt, device="cpu", usm_sharpener=lambda image: image)
    feed = MODEL_REGISTRY.get(model).feed_data
    try:
        feed(stand_in, asked)
    except (AttributeError, ValueError):
        assert model in DEGRADING_MODELS  # which go on with what they read
    names = {batches.LQ: "lq", batches.LQ_FRAMES: "lq", batches.GT: "gt", batches.GT_FRAMES: "gt"}
    wanted = {names.get(content, "kernel1") for content in TRAINS_ON[model]}
    assert wanted <= asked.names
    assert ("kernel1" in asked.names) == (batches.KERNELS in TRAINS_ON[model])


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        (options("RealESRNetModel", "PairedImageDataset"), "choose RealESRGANDataset, or set high_order_degradation"),
        (options("RealHATGANModel", "SingleImageDataset"), "gives no GT images and no blur kernels; choose"),
        (options("RealESRGANModel", "RealESRGANDataset", high_order_degradation=False), "gives no LQ images"),
        (options("ESCModel", "RealESRGANDataset"), "trains on LQ images and GT images, but RealESRGANDataset gives no"),
        (options("ESCModel", "Vimeo90KDataset"), "gives no LQ images; choose one of PairedImageDataset"),
        (options("EDVRModel", "PairedImageDataset"), "gives no frames of LQ; choose one of REDSDataset, Vimeo90K"),
        (options("ESCModel", "FFHQDataset", "val_1"), "datasets:val_1:type: ESCModel validates on LQ images"),
        (options("ESCModel", "FFHQDataset", "test", is_train=False), "datasets:test:type: ESCModel tests on LQ"),
        (options("ESCModel", "BicubicDataset", section={"queries": 4}), "queries gives single pixels of GT"),
        (options("EDVRModel", "VideoTestDataset", "val", val={"metrics": {"a": 1}}), "on a GPU alone"),
        (options("EDVRModel", "VideoTestDataset", "val", num_gpu=1, val={"val_freq": 1}), "val:metrics is missing"),
    ],
)
def test_what_does_not_match_is_told(opt: Options, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_batches(opt)


@pytest.mark.parametrize(
    "opt",
    [
        options("RealESRNetModel", "PairedImageDataset", high_order_degradation=False),
        options("RealESRNetModel", "RealESRGANDataset"),
        options("ESCModel", "SingleImageDataset", "val"),
        options("ESCLTEModel", "BicubicDataset", section={"queries": 4}),
        options("ESCLTEModel", "PairedImageDataset"),
        options("ESCModel", "of_somebody"),
        options("OfSomebody", "FFHQDataset"),
    ],
)
def test_what_matches_is_taken(opt: Options) -> None:
    check_batches(opt)


def test_a_network_of_one_scale_in_the_model_of_any(tiny_options: Options) -> None:
    with pytest.raises(ValueError, match="ESCLTEModel is for networks of any scale, as ESCLTE, and not for ESC"):
        MODEL_REGISTRY.get("ESCLTEModel").check({**tiny_options, "is_train": True, "dist": False})
