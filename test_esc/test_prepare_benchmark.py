"""Benchmarks and the demonstration data."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from esc_arch.common.errors import UserError
from esc_arch.prepare.benchmarks import prepare_benchmark
from esc_arch.prepare.demo import TRAINING, VALIDATION, prepare_demo
from esc_arch.prepare.images import downscale

# isort: split
# esc_arch comes first, it mends the import of basicsr
from basicsr.data import build_dataset

SHAPES = {"bird": (41, 50), "cat": (48, 36)}


def _photograph(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(skimage.data.chelsea()[60 : 60 + height, 100 : 100 + width, ::-1])


def _folder(path: Path, template: str = "{}.png") -> Path:
    path.mkdir()
    for name, shape in SHAPES.items():
        cv2.imwrite(str(path / template.format(name)), _photograph(*shape))
    return path


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_benchmark_keeps_hr_and_is_read_by_basicsr(tmp_path: Path) -> None:
    prepare_benchmark(_folder(tmp_path / "in", "{}.bmp"), "Set2", tmp_path, workers=2)
    expected = {f"HR/{name}.png" for name in SHAPES}
    expected |= {f"LR_bicubic/X{scale}/{name}x{scale}.png" for name in SHAPES for scale in (2, 3, 4)}
    assert set(_files(tmp_path / "Set2")) == expected
    for name, (height, width) in SHAPES.items():
        image = _photograph(height, width)
        assert np.array_equal(cv2.imread(str(tmp_path / "Set2" / "HR" / f"{name}.png")), image)
        for scale in (2, 3, 4):
            small = cv2.imread(str(tmp_path / "Set2" / "LR_bicubic" / f"X{scale}" / f"{name}x{scale}.png"))
            cropped = image[: height // scale * scale, : width // scale * scale]
            assert np.array_equal(small, downscale(cropped, scale))
    options = {"type": "PairedImageDataset", "name": "Set2", "phase": "val", "scale": 3, "filename_tmpl": "{}x3"}
    options |= {"dataroot_gt": f"{tmp_path}/Set2/HR", "dataroot_lq": f"{tmp_path}/Set2/LR_bicubic/X3"}
    items = {Path(item["gt_path"]).stem: item for item in build_dataset(options | {"io_backend": {"type": "disk"}})}
    assert items["bird"]["gt"].shape == (3, 39, 48)
    assert items["bird"]["lq"].shape == (3, 13, 16)
    assert items["cat"]["gt"].shape == (3, 48, 36)


@pytest.mark.parametrize(
    ("template", "name"), [("{}_SRF_2_HR.png", "bird"), ("{}_HR.png", "bird"), ("x_{}.png", "x_bird")]
)
def test_suffix_of_all_names_is_dropped(tmp_path: Path, template: str, name: str) -> None:
    prepare_benchmark(_folder(tmp_path / "in", template), "Set2", tmp_path, scales=[2], workers=2)
    assert (tmp_path / "Set2" / "LR_bicubic" / "X2" / f"{name}x2.png").exists()


def test_existing_files_are_verified_and_never_overwritten(tmp_path: Path) -> None:
    root = tmp_path / "Set2"
    root.mkdir()
    _folder(root / "HR")
    prepare_benchmark(root / "HR", "Set2", tmp_path, workers=2)  # the HR images may be in place already
    (root / "LR_bicubic" / "X4" / "catx4.png").unlink()
    (root / "HR" / ".esc-1-abcdef.part").touch()
    before = _files(root)
    prepare_benchmark(root / "HR", "Set2", tmp_path, workers=2)
    after = _files(root)
    assert set(after) - set(before) == {"LR_bicubic/X4/catx4.png"}
    assert {name: after[name] for name in before if name != "HR/.esc-1-abcdef.part"}.items() <= before.items()
    assert "HR/.esc-1-abcdef.part" not in after

    other = _folder(tmp_path / "in")
    cv2.imwrite(str(other / "cat.png"), 255 - _photograph(*SHAPES["cat"]))
    with pytest.raises(UserError, match=r"HR/cat\.png has other pixels than .*in/cat\.png: move or delete it"):
        prepare_benchmark(other, "Set2", tmp_path, workers=2)
    (other / "cat.png").unlink()
    with pytest.raises(UserError, match=r"HR/cat\.png does not belong to the images of .*in"):
        prepare_benchmark(other, "Set2", tmp_path, workers=2)
    assert _files(root) == after
    cv2.imwrite(str(root / "LR_bicubic" / "X2" / "birdx2.png"), _photograph(21, 25))
    with pytest.raises(UserError, match=r"birdx2\.png is 21 x 25, not 41 x 50 / 2: move or delete it"):
        prepare_benchmark(root / "HR", "Set2", tmp_path, workers=2)


def test_wrong_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(Path(__file__).resolve().parents[1] / "datasets" / "prepare_benchmarks.py"))["main"]
    folder = _folder(tmp_path / "in")
    for name, data, sentence in (
        ("bird.jpg", cv2.imencode(".jpg", _photograph(48, 48))[1].tobytes(), "would both be stored as bird.png"),
        ("bird_LR.png", (folder / "bird.png").read_bytes(), "give a folder with HR images only"),
        ("tiny.png", cv2.imencode(".png", _photograph(7, 48))[1].tobytes(), "tiny.png is too small for scale 4"),
        ("cut.png", (folder / "bird.png").read_bytes()[:900], "cut.png cannot be read"),
    ):
        (folder / name).write_bytes(data)
        with pytest.raises(SystemExit) as stop:
            main(["--input", str(folder), "--name", "Set2", "--output", str(tmp_path)])
        assert stop.value.code == 1
        assert sentence in capsys.readouterr().err.splitlines()[-1]
        (folder / name).unlink()
    with pytest.raises(UserError, match="must be a single folder name"):
        prepare_benchmark(folder, "a/b", tmp_path)
    with pytest.raises(UserError, match="--scales must be"):
        prepare_benchmark(folder, "Set2", tmp_path, scales=[])


def test_demo_is_made_of_different_scenes_and_readable(tmp_path: Path) -> None:
    assert not {photograph.function for photograph in TRAINING.values()} & {
        photograph.function for photograph in VALIDATION.values()
    }
    prepare_demo(tmp_path / "demo", workers=2)
    files = {name: time for name, time in _files(tmp_path / "demo").items() if not name.endswith("lock.mdb")}
    prepare_demo(tmp_path / "demo", workers=2)
    assert {name: time for name, time in _files(tmp_path / "demo").items() if name in files} == files
    assert sorted(os.listdir(tmp_path / "demo")) == sorted(
        ["train_HR_sub.lmdb", *(f"train_LR_bicubic_X{scale}_sub.lmdb" for scale in (2, 3, 4)), "val"]
    )
    demo = tmp_path / "demo"
    for scale in (2, 3, 4):
        options = {"type": "PairedImageDataset", "scale": scale, "use_hflip": True, "use_rot": True, "gt_size": 192}
        training = options | {"name": "train", "phase": "train", "io_backend": {"type": "lmdb"}}
        training |= {"dataroot_gt": f"{demo}/train_HR_sub.lmdb"}
        dataset = build_dataset(training | {"dataroot_lq": f"{demo}/train_LR_bicubic_X{scale}_sub.lmdb"})
        assert len(dataset) > 100
        assert dataset[0]["lq"].shape == (3, 192 // scale, 192 // scale)
        validation = options | {"name": "val", "phase": "val", "io_backend": {"type": "disk"}}
        validation |= {"dataroot_gt": f"{demo}/val/HR", "filename_tmpl": f"{{}}x{scale}"}
        dataset = build_dataset(validation | {"dataroot_lq": f"{demo}/val/LR_bicubic/X{scale}"})
        assert sorted(Path(item["gt_path"]).stem for item in dataset) == sorted(VALIDATION)
        assert all(item["gt"].shape == (3, 288, 288) for item in dataset)
        assert all(item["gt"].std() > 0.1 for item in dataset)


def test_missing_photograph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("requires pooch")

    monkeypatch.setattr(skimage.data, "chelsea", missing)
    with pytest.raises(UserError, match=r"does not hold the photograph skimage\.data\.chelsea \(requires pooch\)"):
        prepare_demo(tmp_path / "demo", workers=2)
    assert not any((tmp_path / "demo").iterdir())
