"""Data sets: lists of images are honoured by each, several roots are joined, and LQ is made as the peers make it."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from PIL import Image
from running import train_here
from test_check import parsed
from test_peer_files import BLUR

from esc_arch.archs import ESC
from esc_arch.bridge.peer_options import adapt
from esc_arch.checks.data import check_dataset
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.common.paths import expand, expand_in
from esc_arch.data.several_roots import one_root_each

Options = dict[str, Any]


def built(opt: Options) -> Any:
    from basicsr.data import build_dataset

    return build_dataset({"name": "tiny", "phase": "train", "scale": 2, "use_hflip": False, "use_rot": False, **opt})


def stems(data: Any) -> list[str]:
    """Names of the GT, or the only, images."""
    paths = [path.get("gt_path") if isinstance(path, dict) else path for path in data.paths]
    return [Path(path).stem for path in paths]


def roots(kind: str, data: Path, backend: str) -> Options:
    """Where the training images of `tiny_data`, p0 to p3, lie for a type of data set."""
    place = {"disk": "train/{}", "lmdb": "train_{}.lmdb"}[backend]
    opt = {"type": kind, "io_backend": {"type": backend}, "gt_size": 32, **BLUR}
    if kind != "SingleImageDataset":
        opt["dataroot_gt"] = str(data / place.format("HR"))
    if kind in ("PairedImageDataset", "RealESRGANPairedDataset", "SingleImageDataset"):
        opt["dataroot_lq"] = str(data / place.format("LR"))
    return opt


KINDS = (
    "PairedImageDataset",
    "SingleImageDataset",
    "RealESRGANDataset",
    "BicubicDataset",
    "DownsampleImageDataset",
    "ImageNetPairedDataset",
)


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_images_are_honoured(tiny_data: Path, tmp_path: Path, kind: str, backend: str) -> None:
    opt = roots(kind, tiny_data, backend)
    assert sorted(stems(built(opt))) == ["p0", "p1", "p2", "p3"]
    assert sorted(stems(built({**opt, "meta_info_file": None}))) == ["p0", "p1", "p2", "p3"]
    listed = tmp_path / "list.txt"
    listed.write_text("p2.png (48,40,3)\np0.png\n")
    chosen = built({**opt, "meta_info_file": str(listed)})
    assert stems(chosen) == ["p2", "p0"]
    if kind == "PairedImageDataset":
        whole = built(opt)
        random.seed(0)
        expected = whole[stems(whole).index("p2")]["lq"]
        random.seed(0)
        assert torch.equal(chosen[0]["lq"], expected)
    listed.write_text("p2.png\np9.png\n")
    with pytest.raises(UserError, match=r"p9"):
        check_dataset({"phase": "val", "name": "a", "scale": 2, **opt, "meta_info_file": str(listed)}, "datasets:val")


@pytest.mark.parametrize("backend", ["disk", "lmdb"])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_as_editors_leave_them(tiny_data: Path, tmp_path: Path, kind: str, backend: str) -> None:
    """With empty lines, tabs, and the line ends and the mark of Windows."""
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfp2.png\t(48,40,3)\r\n\r\np0.png\r\n   \r\n")
    data = built({**roots(kind, tiny_data, backend), "meta_info_file": str(listed)})
    assert stems(data) == ["p2", "p0"]
    listed.write_text("\n")
    opt = {"phase": "val", "name": "a", "scale": 2, **roots(kind, tiny_data, backend), "meta_info_file": str(listed)}
    with pytest.raises(UserError, match=r"datasets:val: .*list\.txt names no images"):
        check_dataset(opt, "datasets:val")


def test_lists_of_the_sets_of_real_esrgan(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("p1.png\n")
    for name in ("meta_info", "meta_info_file"):
        data = built({**roots("RealESRGANDataset", tiny_data, "disk"), name: str(tmp_path / "list.txt")})
        assert stems(data) == ["p1"]
    (tmp_path / "pairs.txt").write_text("p1.png, p1.png\n\n")
    for backend in ("disk", "lmdb"):
        opt = roots("RealESRGANPairedDataset", tiny_data, backend)
        assert stems(built({**opt, "meta_info": str(tmp_path / "pairs.txt")})) == ["p1"]


def test_a_list_that_is_not_there(tiny_data: Path) -> None:
    """HAT names one that its repository lacks and its RealESRGANDataset does not read; elsewhere it is a mistake."""
    for kind in ("RealESRGANDataset", "ImageNetPairedDataset"):
        dataset = {
            "name": "a",
            "phase": "train",
            "scale": 2,
            **roots(kind, tiny_data, "disk"),
            "meta_info_file": "no.txt",
        }
        dataset.update(use_hflip=True, use_rot=False)
        told = adapt({"datasets": {"train": dataset}})
        if kind == "RealESRGANDataset":
            assert "no.txt does not exist, so all images of" in told[0]
            assert check_dataset(dataset, "datasets:train").count == 4
        else:
            assert not told
            with pytest.raises(UserError, match=r"no\.txt"):
                check_dataset(dataset, "datasets:train")


def test_several_roots_are_one_after_the_other(tiny_data: Path, tiny_options: Options) -> None:
    """A folder and the folder of validation, whose LQ has other names."""
    pairs = {
        "type": "PairedImageDataset",
        "dataroot_gt": [str(tiny_data / "train/HR"), str(tiny_data / "val/HR")],
        "dataroot_lq": [str(tiny_data / "train/LR"), str(tiny_data / "val/LR")],
        "filename_tmpl": ["{}", "{}x2"],
        "io_backend": {"type": "disk"},
        "gt_size": 32,
    }
    data = built(pairs)
    assert len(data) == 5
    assert sorted(stems(data)[:4]) == ["p0", "p1", "p2", "p3"]
    assert stems(data)[4:] == ["p0"]
    alone = built({**pairs, **{key: pairs[key][1] for key in ("dataroot_gt", "dataroot_lq", "filename_tmpl")}})
    random.seed(0)
    expected = alone[0]
    random.seed(0)
    assert torch.equal(data[4]["gt"], expected["gt"])
    assert data[4]["lq_path"].endswith("p0x2.png")

    tiny_options["datasets"]["train"].update(copy.deepcopy(pairs))
    check_options(parsed(tiny_options))
    tiny_options["datasets"]["train"]["dataroot_lq"].pop()
    with pytest.raises(
        UserError, match="datasets:train: the lists of one data set must be equally long, got dataroot_gt 2"
    ):
        check_options(parsed(tiny_options))


def test_several_databases(tiny_data: Path) -> None:
    data = built(
        {
            "type": "PairedImageDataset",
            "dataroot_gt": [str(tiny_data / "train_HR.lmdb")] * 2,
            "dataroot_lq": [str(tiny_data / "train_LR.lmdb")] * 2,
            "io_backend": {"type": "lmdb"},
            "gt_size": 32,
        }
    )
    assert len(data) == 8
    assert data[7]["gt"].shape == (3, 32, 32)


def test_a_missing_root_is_named(tiny_data: Path) -> None:
    dataset = {**roots("BicubicDataset", tiny_data, "disk"), "name": "a", "phase": "val", "scale": 2}
    dataset["dataroot_gt"] = [dataset["dataroot_gt"], "no/where"]
    with pytest.raises(UserError, match="datasets:val:dataroot_gt: no/where does not exist"):
        check_dataset(dataset, "datasets:val")
    with pytest.raises(ValueError, match="must be equally long"):
        one_root_each({"dataroot_gt": ["a"], "dataroot_lq": "b"})


def test_options_of_a_command_expand_every_root() -> None:
    from basicsr.utils import options

    assert options.osp.expanduser(["~/a", "b"]) == [str(Path("~/a").expanduser()), "b"]
    assert options.osp.expanduser("~") == str(Path.home())
    assert options.osp.join("a", "b") == str(Path("a") / "b")


def test_paths_are_expanded_wherever_they_stand(
    tiny_data: Path, tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is not found would be a training on all images of the folder, or none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tiny_data))
    (tmp_path / "list.txt").write_text("p0.png\np2.png\n")
    network = randomise(ESC(**TINY))
    torch.save({"params": network.state_dict()}, tmp_path / "w.pth")
    train = tiny_options["datasets"]["train"]
    train.update(dataroot_gt="$SCRATCH/train_HR.lmdb/", dataroot_lq="${SCRATCH}/train_LR.lmdb//")
    train.update(meta_info_file="~/list.txt")
    tiny_options["path"]["pretrain_network_g"] = "$HOME/w.pth"
    tiny_options["train"]["total_iter"] = 1
    assert train_here(tmp_path, tiny_options) == 0
    log = next((tmp_path / "experiments/tiny").glob("*.log")).read_text()
    assert "Number of train images: 2" in log
    assert f"from {tmp_path}/w.pth" in log
    section = {"dataroot_gt": ["~/a", "$SCRATCH/b.lmdb/"], "meta_info": "~/c", "name": "~", "dataroot_lq": "$NONE/d"}
    expand_in(section)
    a, b, c = f"{tmp_path}/a", f"{tiny_data}/b.lmdb", f"{tmp_path}/c"
    assert section == {"dataroot_gt": [a, b], "meta_info": c, "name": "~", "dataroot_lq": "$NONE/d"}


def test_downsampling_is_that_of_pillow(tiny_data: Path) -> None:
    """ESC's DFLIP: 8 bit, antialiased, and not MATLAB's bicubic."""
    opt = roots("DownsampleImageDataset", tiny_data, "disk")
    item = built(opt)[1]
    assert item["gt"].shape == (3, 32, 32)
    assert item["lq_path"] == item["gt_path"]
    patch = Image.fromarray((item["gt"] * 255).round().byte().permute(1, 2, 0).numpy())
    small = np.asarray(patch.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal((item["lq"] * 255).round().byte().permute(1, 2, 0).numpy(), small)
    shifted = built({**opt, "mean": [0.5] * 3, "std": [0.5] * 3, "gt_size": 40})[1]
    assert shifted["lq"].min() < 0 <= shifted["gt"].max() <= 1


def test_patch_larger_than_the_image_goes_on_by_reflection(tiny_data: Path) -> None:
    opt = roots("DownsampleImageDataset", tiny_data, "disk")
    gt = built({**opt, "gt_size": 48})[0]["gt"]  # the image is 48 high, 40 wide
    assert gt.shape == (3, 48, 48)
    assert torch.equal(gt[:, :, 40:], gt[:, :, 31:39].flip(2))
    dataset = {"name": "a", "phase": "train", "use_hflip": True, "use_rot": True, "scale": 2, **opt, "gt_size": 48}
    assert check_dataset(dataset, "datasets:train").count == 4


@pytest.mark.parametrize(("phase", "gt_size"), [("train", 32), ("train", 60), ("val", 60)])
def test_pairs_of_imagenet(tiny_data: Path, phase: str, gt_size: int) -> None:
    """HAT's: the whole image is shrunk without rounding, then cropped; a small image is enlarged to the patch first."""
    from basicsr.utils.matlab_functions import imresize

    opt = {**roots("ImageNetPairedDataset", tiny_data, "disk"), "phase": phase, "gt_size": gt_size, "scale": 4}
    item = built(opt)[0]
    whole = cv2.imread(str(tiny_data / "train/HR/p0.png")).astype(np.float32)[..., ::-1] / 255
    if gt_size == 60:
        whole = cv2.resize(np.ascontiguousarray(whole), (60, 60))
        small = torch.from_numpy(imresize(whole, 1 / 4)).permute(2, 0, 1)
        torch.testing.assert_close(item["lq"], small.float(), rtol=0, atol=1e-6)
        torch.testing.assert_close(item["gt"], torch.from_numpy(whole).permute(2, 0, 1), rtol=0, atol=1e-6)
    else:
        assert item["gt"].shape == (3, 32, 32)
        assert item["lq"].shape == (3, 8, 8)
    rounded = (item["lq"] * 255).round() / 255
    assert (rounded - item["lq"]).abs().max() > 1e-4


def test_a_dollar_in_the_name_of_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQ", "elsewhere")
    (tmp_path / "a$LQ").mkdir()
    assert expand([f"{tmp_path}/a$LQ", f"{tmp_path}/b$LQ"]) == [f"{tmp_path}/a$LQ", f"{tmp_path}/belsewhere"]
