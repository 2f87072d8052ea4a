"""Which models read what, and which data sets give it: two tables, matched before anything is read."""

from __future__ import annotations

from typing import Any

from esc_arch.checks.table import BLIND, DEGRADING_MODELS, GAN_MODELS, PAIRED, SHRINKING, VIDEO, VIDEO_TEST
from esc_arch.common.errors import UserError

Options = dict[str, Any]
LQ, GT, KERNELS, PIXELS = "LQ images", "GT images", "blur kernels", "single GT pixels"
LQ_FRAMES, GT_FRAMES, CLIPS = "frames of LQ", "frames of GT", "whole clips"

# what an item of a data set holds; types that are not named here are somebody's own
GIVES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*PAIRED, *SHRINKING), (LQ, GT)),
    **dict.fromkeys(BLIND, (GT, KERNELS)),
    "SingleImageDataset": (LQ,),
    "FFHQDataset": (GT,),
    **{name: (LQ_FRAMES, GT_FRAMES if "Recurrent" in name else GT) for name in VIDEO},
    **{name: (LQ_FRAMES, GT_FRAMES if "Recurrent" in name else GT, CLIPS) for name in VIDEO_TEST},
}

IMAGES = ("SRModel", "SwinIRModel", "HiFaceGANModel", "ESCModel", "ESRModel", "HATModel", "HITModel", "ESCLTEModel")
FRAMES = ("VideoBaseModel", "EDVRModel", "VideoGANModel")
RECURRENT = ("VideoRecurrentModel", "VideoRecurrentGANModel")
TRAINS_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*IMAGES, *GAN_MODELS), (LQ, GT)),
    **dict.fromkeys(DEGRADING_MODELS, (GT, KERNELS)),
    **dict.fromkeys(FRAMES, (LQ_FRAMES, GT)),
    **dict.fromkeys(RECURRENT, (LQ_FRAMES, GT_FRAMES)),
    "StyleGAN2Model": (GT,),
}
VALIDATES_ON: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*IMAGES, *GAN_MODELS, *DEGRADING_MODELS), (LQ,)),
    **dict.fromkeys(FRAMES, (LQ_FRAMES, GT, CLIPS)),
    **dict.fromkeys(RECURRENT, (LQ_FRAMES, GT_FRAMES, CLIPS)),
}


def given_by(dataset: Options) -> tuple[str, ...] | None:
    """Return what a data set gives, None where it is somebody's own."""
    gives = GIVES.get(dataset["type"])
    if gives is not None and dataset.get("queries") and dataset["phase"] == "train":
        return tuple(PIXELS if content == GT else content for content in gives)
    return gives


def read_by(opt: Options, phase: str) -> tuple[str, ...] | None:
    """Return what a model reads in training or validation, None where it is somebody's own."""
    model = opt["model_type"]
    if phase != "train":
        return VALIDATES_ON.get(model)
    if model in DEGRADING_MODELS and not opt.get("high_order_degradation", True):
        return LQ, GT
    return TRAINS_ON.get(model)


def check_batches(opt: Options) -> None:
    """Check that every data set gives what the model reads.

    Args:
        opt: parsed options, whose model and data sets are registered.

    Raises:
        UserError: one does not; the sentence says which do.
    """
    model = opt["model_type"]
    for phase, dataset in opt["datasets"].items():
        reads, gives = read_by(opt, phase), given_by(dataset)
        if reads is None or gives is None:
            continue
        if model == "ESCLTEModel" and PIXELS in gives:
            continue
        lacking = [content for content in reads if content not in gives]
        if not lacking:
            continue
        if PIXELS in gives and GT in lacking:
            raise UserError(
                f"datasets:{phase}:queries gives single pixels of GT, which {model} cannot read; remove queries, or "
                "set model_type ESCLTEModel."
            )
        others = VIDEO_TEST if phase == "train" else ()
        suitable = [name for name, contents in GIVES.items() if set(reads) <= set(contents) and name not in others]
        advice = f"choose one of {', '.join(suitable)}" if len(suitable) > 1 else f"choose {suitable[0]}"
        if model in DEGRADING_MODELS and LQ in gives and phase == "train":
            advice += ", or set high_order_degradation to false to train on pairs"
        verb = "trains" if phase == "train" else "validates" if opt["is_train"] else "tests"
        raise UserError(
            f"datasets:{phase}:type: {model} {verb} on {' and '.join(reads)}, but {dataset['type']} gives no "
            f"{' and no '.join(lacking)}; {advice}."
        )
    _check_clips(opt)


def _check_clips(opt: Options) -> None:
    """Check what the validation of BasicSR's video models asks for without a word."""
    model = opt["model_type"]
    validated = [phase for phase in opt["datasets"] if phase != "train"]
    if model not in (*FRAMES, *RECURRENT) or not validated or (opt["is_train"] and not opt.get("val")):
        return
    if opt["num_gpu"] == 0:
        raise UserError(
            f"datasets:{validated[0]}: {model} validates and tests on a GPU alone, and num_gpu is 0; use a GPU"
            + (", or remove the section val." if opt["is_train"] else ".")
        )
    if not (opt.get("val") or {}).get("metrics"):
        raise UserError(f"val:metrics is missing, which {model} needs where it validates; add it, as options/ have it.")
