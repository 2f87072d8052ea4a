"""Compare a trained network with bicubic: `python -m esc_arch.report -opt FILE [--force_yml ...]`.

FILE is a training or a test option file. The network is scored on its validation or test sets by BasicSR's metrics,
next to bicubic enlargement, and a picture of details is saved: LR, bicubic, the network and GT side by side.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from esc_arch.bridge.pipeline import parse_in_words
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError, one_sentence
from esc_arch.common.whole_files import replacing, try_folder

Options = dict[str, Any]
Picture = np.ndarray[Any, np.dtype[np.uint8]]  # (H, W, 3), RGB

ROWS = 3  # pictures of a data set that are shown
SIDE = 96  # GT pixels of a picture that are shown, and how often each is repeated
ZOOM = 3
CAPTION = 24  # height of a caption in pixels


@dataclass
class Scores:
    """What one method reaches on one data set."""

    metrics: dict[str, list[float]] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


@one_sentence
def main() -> None:
    """Run the command."""
    from basicsr.utils.options import parse_options

    opt, *_ = parse_in_words(parse_options, os.getcwd(), is_train=False)
    opt["root_path"] = os.getcwd()
    opt["datasets"] = {name: dataset for name, dataset in opt["datasets"].items() if dataset["phase"] != "train"}
    if not opt["datasets"] or not (opt.get("val") or {}).get("metrics"):
        raise UserError("datasets, val:metrics: a report needs a validation or test set and metrics; name them.")
    for phase, dataset in opt["datasets"].items():
        if dataset.get("dataroot_gt") is None:
            raise UserError(f"datasets:{phase}: dataroot_gt is missing; a report compares with GT.")
        scale = dataset.get("scale")
        if not isinstance(scale, int) or scale < 1:
            raise UserError(f"datasets:{phase}: scale must be a whole number of at least 1 for a report, got {scale}.")
    opt["val"].setdefault("suffix", None)
    folder = _use_trained_network(opt)
    check_options(opt)
    try_folder(folder)

    network = opt["network_g"]["type"]
    rows: list[list[Picture]] = []
    for dataset in opt["datasets"].values():
        baseline = deepcopy(opt)
        baseline.update(network_g={"type": "Bicubic", "upscaling_factor": dataset["scale"]}, model_type="SRModel")
        baseline["path"]["pretrain_network_g"] = None
        methods = {"bicubic": _score(baseline, dataset), network: _score(opt, dataset)}
        truth = _truth(dataset)
        print(_table(dataset, opt, methods), flush=True)
        for index, (lq, gt) in enumerate(truth[:ROWS]):
            shown = [lq, *(scores.pictures[index] for scores in methods.values()), gt]
            top, left = _most_detailed(gt)
            rows.append([_zoom(picture[top : top + SIDE, left : left + SIDE]) for picture in shown])
    file = os.path.join(folder, f"{opt['name']}_side_by_side.png")
    scales = " ".join(f"x{scale}" for scale in sorted({dataset["scale"] for dataset in opt["datasets"].values()}))
    with replacing(file) as stream:
        _side_by_side(rows, [f"LR ({scales} nearest)", "bicubic", network, "GT"]).save(stream, "PNG")
    print(f"LR, bicubic, {network} and GT side by side: {os.path.relpath(file)}")


def _use_trained_network(opt: Options) -> str:
    """Point the options at the weights that training left behind, unless they name some; return where to report."""
    experiment = os.path.join(opt["root_path"], "experiments", opt["name"])
    latest = os.path.join(experiment, "models", "net_g_latest.pth")
    if os.path.isfile(latest):
        opt["path"].update(pretrain_network_g=latest, param_key_g="params_ema")
        return experiment
    if opt["path"].get("pretrain_network_g") is None:
        raise UserError(f"path:pretrain_network_g: no weights are named and {latest} does not exist; train first.")
    return str(opt["path"]["results_root"])


def _loader(dataset: Options) -> Any:
    from basicsr.data import build_dataloader, build_dataset

    return build_dataloader(build_dataset(dataset), dataset, num_gpu=0, dist=False, sampler=None, seed=0)


def _score(opt: Options, dataset: Options) -> Scores:
    """Run the model of the options over a data set, with BasicSR's model and metrics."""
    from basicsr.metrics import calculate_metric
    from basicsr.models import build_model
    from basicsr.utils import tensor2img

    from esc_arch.models.esc_lte_model import with_crop_border

    model = build_model(opt)
    metrics = with_crop_border(opt["val"]["metrics"], dataset["scale"])
    scores = Scores({name: [] for name in opt["val"]["metrics"]})
    for data in _loader(dataset):
        model.feed_data(data)
        model.test()
        visuals = model.get_current_visuals()
        sr, gt = tensor2img([visuals["result"]]), tensor2img([visuals["gt"]])  # BGR, 8 bit
        for name, metric in metrics.items():
            scores.metrics[name].append(calculate_metric({"img": sr, "img2": gt}, deepcopy(metric)))
        if len(scores.pictures) < ROWS:
            scores.pictures.append(sr[..., ::-1])
    return scores


def _truth(dataset: Options) -> list[tuple[Picture, Picture]]:
    """Return the first pairs of LR, enlarged by repeating pixels, and GT."""
    from basicsr.utils import tensor2img

    pairs = []
    for data, _ in zip(_loader(dataset), range(ROWS), strict=False):
        lq, gt = tensor2img([data["lq"]])[..., ::-1], tensor2img([data["gt"]])[..., ::-1]
        scale = dataset["scale"]
        pairs.append((lq.repeat(scale, axis=0).repeat(scale, axis=1), gt))
    return pairs


def _table(dataset: Options, opt: Options, methods: dict[str, Scores]) -> str:
    metrics = opt["val"]["metrics"]
    count = max(len(values) for scores in methods.values() for values in scores.metrics.values())
    titles = [name.upper() + ("-Y" if metric.get("test_y_channel") else "") for name, metric in metrics.items()]
    lines = [
        f"{dataset['name']}, x{dataset['scale']}, {count} images".ljust(30)
        + "".join(title.rjust(10) for title in titles)
    ]
    for method, scores in methods.items():
        lines.append(method.ljust(30) + "".join(f"{np.mean(scores.metrics[name]):10.4f}" for name in metrics))
    return "\n".join(lines)


def _most_detailed(picture: Picture) -> tuple[int, int]:
    """Find the part with the strongest differences between neighbouring pixels; return its top and left."""
    height, width = picture.shape[:2]
    luma = picture.mean(axis=2)
    detail = np.abs(np.diff(luma, axis=0))[:, :-1] + np.abs(np.diff(luma, axis=1))[:-1]
    tops, lefts = range(0, max(height - SIDE, 0) + 1, SIDE // 8), range(0, max(width - SIDE, 0) + 1, SIDE // 8)
    corners = [(top, left) for top in tops for left in lefts]
    return max(corners, key=lambda corner: detail[corner[0] :, corner[1] :][:SIDE, :SIDE].sum())


def _zoom(picture: Picture) -> Picture:
    return picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def _side_by_side(rows: list[list[Picture]], captions: list[str]) -> Image.Image:
    heights = [max(picture.shape[0] for picture in pictures) for pictures in rows]
    width = max(picture.shape[1] for pictures in rows for picture in pictures)
    canvas = Image.new("RGB", (width * len(captions), CAPTION + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=CAPTION * 2 // 3)
    for column, caption in enumerate(captions):
        draw.text((column * width + width // 2, CAPTION // 2), caption, "black", font, anchor="mm")
    top = CAPTION
    for pictures, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(np.ascontiguousarray(picture)), (column * width, top))
        top += height
    return canvas


if __name__ == "__main__":
    main()
