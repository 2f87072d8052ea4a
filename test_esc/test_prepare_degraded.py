"""Pairs degraded as Real-ESRGAN degrades while training, but always alike."""

from __future__ import annotations

import random
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from esc_arch.checks.option_file import load
from esc_arch.common.errors import UserError
from esc_arch.prepare.degraded import degrade, prepare_degraded

# isort: split
# esc_arch comes first, it mends the import of basicsr
from basicsr.data import build_dataset

OPTIONS = Path(__file__).parents[1] / "options"
PUBLISHED = OPTIONS / "train_ESC_Real_x4_mse.yml"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "cat.png"), skimage.data.chelsea()[..., ::-1])  # 300 x 451
    cv2.imwrite(str(folder / "cup.bmp"), skimage.data.coffee()[:90, :62, ::-1])
    return folder


def _read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))


def test_pairs_are_read_by_basicsr_and_made_again_alike(photographs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare_degraded(photographs, "Set2", tmp_path / name, PUBLISHED, workers=1)
    root = tmp_path / "one" / "Set2"
    assert np.array_equal(_read(root / "HR" / "cat.png"), _read(photographs / "cat.png")[:, 25:425])  # the middle
    assert _read(root / "HR" / "cup.png").shape == (88, 60, 3)
    for image in root.rglob("*.png"):
        assert np.array_equal(_read(image), _read(tmp_path / "two" / "Set2" / image.relative_to(root)))
    options = {"type": "PairedImageDataset", "name": "Set2", "phase": "val", "scale": 4, "filename_tmpl": "{}x4"}
    options |= {"dataroot_gt": f"{root}/HR", "dataroot_lq": f"{root}/LR_degraded/X4", "io_backend": {"type": "disk"}}
    assert [item["lq"].shape[1:] for item in build_dataset(options)] == [(75, 100), (22, 15)]


def test_it_is_the_degradation_of_a_training() -> None:
    from basicsr.data.realesrgan_dataset import RealESRGANDataset
    from basicsr.models.realesrnet_model import RealESRNetModel

    image = np.ascontiguousarray(skimage.data.astronaut()[:400, :400, ::-1])
    options = load(str(PUBLISHED))
    model = RealESRNetModel.__new__(RealESRNetModel)
    drawn: dict[str, torch.Tensor] = {}

    def spy(self: RealESRNetModel) -> None:
        drawn.update(lq=self.lq, gt=self.gt)

    seeds: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "seed", lambda number, keep=random.seed: (seeds.append(number), keep(number)))
        result = degrade(image, options, "anything")
    random.seed(seeds[0])
    np.random.seed(seeds[0])
    torch.manual_seed(seeds[0])
    section = {**options["datasets"]["train"], "use_hflip": False, "io_backend": {"type": "disk"}}
    data_set = RealESRGANDataset({**section, "dataroot_gt": "", "meta_info": "/dev/null"})
    data_set.paths, data_set.file_client = (
        ["a"],
        type("Client", (), {"get": lambda *_: cv2.imencode(".png", image)[1]})(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealESRNetModel, "_dequeue_and_enqueue", spy)
        from basicsr.utils.diffjpeg import DiffJPEG
        from basicsr.utils.img_process_util import USMSharp

        model.opt, model.device, model.is_train = {**options, "gt_size": 400}, torch.device("cpu"), True
        model.jpeger, model.usm_sharpener = DiffJPEG(differentiable=False), USMSharp()
        model.feed_data({key: value[None] for key, value in data_set[0].items() if isinstance(value, torch.Tensor)})
    assert np.array_equal(result, (drawn["lq"][0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8))


def test_seed_and_name_decide_and_nothing_else_is_drawn() -> None:
    image = np.ascontiguousarray(skimage.data.astronaut()[100:200, 100:220])
    options = load(str(PUBLISHED))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    first = degrade(image, options, "0 a")
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert first.shape == (25, 30, 3)
    assert np.array_equal(first, degrade(image, options, "0 a"))
    assert not np.array_equal(first, degrade(image, options, "1 a"))
    assert not np.array_equal(first, degrade(image, options, "0 b"))


def test_other_pairs_are_never_overwritten(photographs: Path, tmp_path: Path) -> None:
    prepare_degraded(photographs, "Set2", tmp_path, PUBLISHED, workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "Set2").rglob("*.png")}
    prepare_degraded(photographs, "Set2", tmp_path, PUBLISHED, workers=1)
    with pytest.raises(UserError, match="another image, seed or option file"):
        prepare_degraded(photographs, "Set2", tmp_path, PUBLISHED, seed=1, workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "Set2").rglob("*.png")}
    lq = tmp_path / "Set2/LR_degraded/X4/catx4.png"
    other_processor = _read(lq).copy()
    other_processor[::9, ::9] ^= 1
    cv2.imwrite(str(lq), other_processor)
    prepare_degraded(photographs, "Set2", tmp_path, PUBLISHED, workers=1)
    assert np.array_equal(_read(lq), other_processor)


def test_mistakes_are_sentences(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"train_ESC_x2\.yml does not train on the Real-ESRGAN degradation"):
        prepare_degraded(photographs, "a", tmp_path / "out", OPTIONS / "train_ESC_x2.yml")
    odd = tmp_path / "odd.yml"
    odd.write_text("model_type: RealESRNetModel\ndatasets: [train]\n")
    with pytest.raises(UserError, match=r"odd\.yml does not train on the Real-ESRGAN degradation"):
        prepare_degraded(photographs, "a", tmp_path / "out", odd)
    with pytest.raises(UserError, match="single folder name"):
        prepare_degraded(photographs, "a/b", tmp_path / "out", PUBLISHED)
    uneven = tmp_path / "uneven.yml"
    uneven.write_text(
        PUBLISHED.read_text().replace("scale: 4", "scale: 3").replace("upscaling_factor: 4", "upscaling_factor: 3")
    )
    with pytest.raises(UserError, match="does not divide"):
        prepare_degraded(photographs, "a", tmp_path / "out", uneven)
    cv2.imwrite(str(photographs / "cat.jpg"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match=r"both be stored as cat\.png"):
        prepare_degraded(photographs, "a", tmp_path / "out", PUBLISHED)
    assert not (tmp_path / "out").exists()
    (photographs / "cat.jpg").unlink()
    cv2.imwrite(str(photographs / "dot.png"), np.zeros((3, 9, 3), np.uint8))
    with pytest.raises(UserError, match=r"dot\.png is too small"):
        prepare_degraded(photographs, "a", tmp_path / "out", PUBLISHED, workers=1)
    assert (tmp_path / "out/a/HR/cat.png").exists()


def test_command(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = OPTIONS.parent / "datasets" / "prepare_degraded.py"
    arguments = ["--input", photographs, "--name", "A", "--output", tmp_path, "--opt", PUBLISHED, "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [str(command), *map(str, arguments)])
    runpy.run_path(str(command), run_name="__main__")
    assert (tmp_path / "A/LR_degraded/X4/catx4.png").is_file()
