"""All pictures are decoded as training decodes them before it starts; damaged ones are named, whole ones remembered."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from esc_arch.checks import decoding, remembered
from esc_arch.checks.data import check_dataset
from esc_arch.checks.decoding import decode_files
from esc_arch.common.errors import UserError, first_line
from esc_arch.common.leftovers import is_leftover

Options = dict[str, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "cache_folder", lambda: str(tmp_path / "cache"))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(file: Path, image: np.ndarray[Any, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)
    return file


def pairs(root: Path, **changed: Any) -> Options:
    """Folders of three pairs at scale 2, and the section of a training set of them."""
    for index in range(3):
        gt = picture(48, 40, index)
        save(root / "gt" / f"p{index}.png", gt)
        save(root / "lq" / f"p{index}.png", cv2.resize(gt, (20, 24), interpolation=cv2.INTER_AREA))
    return {
        "name": "pairs", "type": "PairedImageDataset", "phase": "train", "scale": 2, "gt_size": 32,
        "dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq"), "io_backend": {"type": "disk"},
        "use_hflip": True, "use_rot": True, **changed,
    }  # fmt: skip


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm"])
def test_pictures_that_are_cut_off(tmp_path: Path, suffix: str) -> None:
    whole, half = save(tmp_path / f"whole{suffix}", picture(64, 64)), save(tmp_path / f"half{suffix}", picture(64, 64))
    cut(half)
    findings = decode_files([str(whole), str(half)], "x")
    assert findings.sizes == {str(whole): (64, 64)}
    assert findings.faults == {str(half): "is damaged or cut off"}


def test_pictures_that_opencv_does_not_read_are_no_damaged_ones(tmp_path: Path) -> None:
    floats = tmp_path / "float.tif"
    assert cv2.imwrite(str(floats), picture(16, 16).astype(np.float32) / 255)
    icon = tmp_path / "a.ico"
    Image.new("RGB", (16, 16)).save(icon)
    faults = decode_files([str(floats), str(icon)], "x").faults
    assert faults == {
        str(floats): "holds values of the type float32, which training does not read: convert it to 8 or 16 bits",
        str(icon): "is whole, but of a kind of ICO that OpenCV, which training reads with, does not: convert it",
    }


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpegs_that_are_damaged_inside(tmp_path: Path, progressive: int) -> None:
    """OpenCV gives a picture all the same, and says it on the terminal only: the second half is missing."""
    files = [tmp_path / f"{name}.jpg" for name in ("before", "damaged", "after")]
    for file in files:
        cv2.imwrite(str(file), picture(96, 96), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    content = files[1].read_bytes()
    files[1].write_bytes(content[: len(content) // 2] + content[-2:])
    assert cv2.imdecode(np.frombuffer(files[1].read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None
    findings = decode_files([str(file) for file in files], "x")
    assert findings.faults == {str(files[1]): "is damaged inside"}


def test_bytes_to_spare_are_no_damage(tmp_path: Path) -> None:
    """As cameras write them; the library of JPEG complains of them too."""
    file = save(tmp_path / "a.jpg", picture(64, 64))
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes(9) + content[-2:] + b"a trailer")
    assert decode_files([str(file)], "x").faults == {}


def test_all_damaged_and_foreign_files_are_named_at_once(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    cut(tmp_path / "gt" / "p0.png")
    (tmp_path / "lq" / "p1.png").write_bytes(b"")
    (tmp_path / "lq" / "p2.png").write_bytes(b"a page of a web server")
    with pytest.raises(UserError, match="3 files cannot be read as images") as caught:
        check_dataset(section, "datasets:train")
    for words in (
        r"gt/p0.png is damaged or cut off",
        "lq/p1.png is empty",
        "lq/p2.png is no picture that OpenCV can read",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_libraries_say_about_damaged_pictures_stays_off_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.png", picture(64, 64))
    cut(file)
    decode_files([str(file)], "x")
    assert capfd.readouterr().err == ""
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


@pytest.mark.parametrize("kind", ["SingleImageDataset", "BicubicDataset", "RealESRGANDataset", "meta_info_file"])
def test_every_type_of_data_set(tmp_path: Path, kind: str) -> None:
    """A picture that is damaged is found, wherever its name comes from."""
    section = pairs(tmp_path)
    cut(tmp_path / "gt" / "p1.png")
    cut(tmp_path / "lq" / "p1.png")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"p{index}.png (48,40,3)\n" for index in range(3)))
    if kind == "SingleImageDataset":
        section.update(type=kind, phase="test")
        del section["dataroot_gt"]
    elif kind == "meta_info_file":
        section[kind] = str(names)
    else:
        section["type"] = kind
        del section["dataroot_lq"]
    if kind == "RealESRGANDataset":
        blur = {"blur_kernel_size": 21, "kernel_list": ["iso"], "kernel_prob": [1], "sinc_prob": 0.1}
        blur |= {"blur_sigma": [0.2, 3], "betag_range": [0.5, 4], "betap_range": [1, 2]}
        section.update(blur, **{f"{key}2": value for key, value in blur.items()}, final_sinc_prob=0.5)
        section["meta_info"] = str(names)
    with pytest.raises(UserError, match=r"p1\.png is damaged or cut off"):
        check_dataset(section, "datasets:train")
    for folder in ("gt", "lq"):
        shutil.copy(tmp_path / folder / "p0.png", tmp_path / folder / "p1.png")
    assert check_dataset(section, "datasets:train").count == 3


def test_a_list_of_pictures_that_are_missing(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("p0.png (48,40,3)\nq8.png (48,40,3)\nq9.png (48,40,3)\n")
    with pytest.raises(UserError, match=r"4 files cannot be read as images: .*q8.png is missing.*q9.png is missing"):
        check_dataset(pairs(tmp_path, meta_info_file=str(names)), "datasets:train")


def test_images_below_a_root_are_named(tmp_path: Path) -> None:
    """BasicSR reads those of the root alone, and a training on a part of the data would look like any other."""
    section = pairs(tmp_path)
    assert check_dataset(section, "datasets:train").notes == []
    for folder in ("gt", "lq"):
        save(tmp_path / folder / "more" / "deep" / "a.png", picture(8, 8))
        (tmp_path / folder / "notes").mkdir()
        (tmp_path / folder / "notes" / "read.me").write_text("no image")
    notes = check_dataset(section, "datasets:train").notes
    assert len(notes) == 2
    assert f"datasets:train:dataroot_gt: the images in {tmp_path / 'gt' / 'more'} are not taken" in notes[0]
    listed = tmp_path / "names.txt"
    listed.write_text("p0.png\n")
    assert check_dataset({**section, "meta_info_file": str(listed)}, "datasets:train").notes == []


def test_turned_photographs_have_the_size_that_opencv_reads(tmp_path: Path) -> None:
    section = pairs(tmp_path, filename_tmpl="{}")
    for folder in ("gt", "lq"):
        for file in (tmp_path / folder).iterdir():
            file.unlink()
    image = Image.fromarray(picture(40, 48))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "gt" / "a.png", exif=exif)
    save(tmp_path / "lq" / "a.png", picture(20, 24))
    with pytest.raises(UserError, match=r"a.png \(40x48\) and .*a.png \(24x20\) do not pair at scale 2"):
        check_dataset(section, "datasets:train")
    save(tmp_path / "lq" / "a.png", picture(24, 20))
    assert check_dataset(section, "datasets:train").count == 1


@pytest.mark.parametrize("image", [picture(48, 40)[..., 0], np.dstack([picture(48, 40), picture(48, 40)[..., :1]]),
                                   picture(48, 40).astype(np.uint16) * 257])  # fmt: skip
def test_grey_alpha_and_deep_pictures_are_whole(tmp_path: Path, image: np.ndarray[Any, Any]) -> None:
    file = save(tmp_path / "a.png", image)
    assert decode_files([str(file)], "x").sizes == {str(file): (48, 40)}


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded: list[str] = []
    read = decoding._read_file
    monkeypatch.setattr(decoding, "_read_file", lambda path: decoded.append(path) or read(path))
    return decoded


def test_whole_pictures_are_remembered_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section, decoded = pairs(tmp_path), counting(monkeypatch)
    check_dataset(section, "datasets:train")
    assert len(decoded) == 6
    check_dataset(section, "datasets:train")
    assert len(decoded) == 6
    file = tmp_path / "gt" / "p0.png"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))  # of the same length
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"p0\.png is damaged"):
        check_dataset(section, "datasets:train")
    assert decoded[6:] == [str(file)]


@pytest.mark.parametrize("spoil", ["unwritable", "garbage", "list"])
def test_a_cache_that_cannot_be_used_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    section, decoded = pairs(tmp_path), counting(monkeypatch)
    if spoil == "unwritable":
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        check_dataset(section, "datasets:train")
        for file in (tmp_path / "cache").rglob("*.json"):
            file.write_text("{" if spoil == "garbage" else "[1, 2]")
        decoded.clear()
    check_dataset(section, "datasets:train")
    assert len(decoded) == 6


def test_decoding_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section, decoded = pairs(tmp_path), counting(monkeypatch)
    cut(tmp_path / "gt" / "p0.png")
    assert check_dataset(section, "datasets:train", decode=False).count == 3
    assert not decoded


def spoil_value(folder: Path) -> None:
    """One picture of the LMDB is replaced by another."""
    import lmdb

    with lmdb.open(str(folder)) as database, database.begin(write=True) as transaction:
        transaction.put(b"p1", b"no picture")


def spoil_key(folder: Path) -> None:
    import lmdb

    with lmdb.open(str(folder)) as database, database.begin(write=True) as transaction:
        transaction.put(b"q1", transaction.pop(b"p1"))


def twice(folder: Path) -> None:
    meta = folder / "meta_info.txt"
    meta.write_text(meta.read_text() * 2)


def renamed(folder: Path) -> None:
    """A database of other keys, which is whole."""
    import lmdb

    meta = folder / "meta_info.txt"
    meta.write_text(meta.read_text().replace("p0.", "q0."))
    with lmdb.open(str(folder)) as database, database.begin(write=True) as transaction:
        transaction.put(b"q0", transaction.pop(b"p0"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_value, "p1 is no picture that OpenCV can read"),
        (spoil_key, r"holds b'q1', which meta_info.txt does not list"),
        (lambda folder: (folder / "data.mdb").write_bytes(b""), r"data\.mdb is empty"),
        (lambda folder: cut(folder / "data.mdb"), r"data\.mdb is truncated"),
        (lambda folder: (folder / "data.mdb").write_bytes(bytes(1 << 14)), r"HR\.lmdb is damaged"),
        (lambda folder: (folder / "meta_info.txt").unlink(), r"meta_info\.txt is missing"),
        (twice, "lists p0 twice"),
        (renamed, "q0 has no LQ, p0 of dataroot_lq has no GT; the keys of both LMDBs must be the same"),
    ],
)
def test_lmdb(tiny_data: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    for kind in ("HR", "LR"):
        shutil.copytree(tiny_data / f"train_{kind}.lmdb", tmp_path / f"{kind}.lmdb")
    section = pairs(tmp_path, dataroot_gt=f"{tmp_path}/HR.lmdb", dataroot_lq=f"{tmp_path}/LR.lmdb")
    section["io_backend"] = {"type": "lmdb"}
    assert check_dataset(section, "datasets:train").count == 4
    spoil(tmp_path / "HR.lmdb")
    with pytest.raises(UserError, match=words):
        check_dataset(section, "datasets:train")


@pytest.mark.parametrize(("backend", "root", "words"), [
    ("disk", "train_HR.lmdb", "is an LMDB, but io_backend:type is disk; set it to lmdb"),
    ("lmdb", "val/HR", "is no LMDB .*, but io_backend:type is lmdb"),
])  # fmt: skip
def test_folder_and_backend_that_do_not_agree(
    tiny_data: Path, tmp_path: Path, backend: str, root: str, words: str
) -> None:
    section = pairs(tmp_path, dataroot_gt=str(tiny_data / root), io_backend={"type": backend})
    with pytest.raises(UserError, match=f"datasets:train:dataroot_gt: .*{words}"):
        check_dataset(section, "datasets:train")


def test_leftovers_of_systems_are_passed_over(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._p0.png"):
        (tmp_path / "gt" / name).write_bytes(b"no picture")
        assert is_leftover(str(tmp_path / "gt" / name))
    assert check_dataset(section, "datasets:train").count == 3
    (tmp_path / "gt" / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=r"datasets:train: notes\.txt has no LQ notes\.txt; every GT needs its LQ"):
        check_dataset(section, "datasets:train")


def test_pictures_without_a_partner_and_links_to_nowhere(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    save(tmp_path / "lq" / "q.png", picture(24, 20))
    with pytest.raises(UserError, match=r"q\.png of dataroot_lq has no GT"):
        check_dataset(section, "datasets:train")
    os.replace(tmp_path / "lq" / "q.png", tmp_path / "lq" / "p0.png")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "gt" / "q.png")
    with pytest.raises(UserError, match=r"datasets:train:dataroot_gt: a link leads nowhere: .*q\.png"):
        check_dataset(section, "datasets:train")


def test_partners_of_other_names_come_with_advice(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    for file in list((tmp_path / "lq").iterdir()):
        file.rename(file.with_name(f"{file.stem}x2.png"))
    with pytest.raises(UserError, match=r"p0\.png has no LQ p0\.png.*; set filename_tmpl to '\{\}x2'\."):
        check_dataset(section, "datasets:train")
    assert check_dataset({**section, "filename_tmpl": "{}x2"}, "datasets:train").count == 3
    for file in list((tmp_path / "lq").iterdir()):
        save(file.with_name(file.name.replace("x2.png", ".bmp")), picture(24, 20))
        file.unlink()
    with pytest.raises(UserError, match=r"LQ must have the suffix of its GT, so convert .* RealESRGANPairedDataset"):
        check_dataset(section, "datasets:train")
    (tmp_path / "list.txt").write_text("".join(f"p{index}.png,p{index}.bmp\n" for index in range(3)))
    section.update(type="RealESRGANPairedDataset", meta_info=str(tmp_path / "list.txt"))
    assert check_dataset(section, "datasets:train").count == 3
    (tmp_path / "list.txt").write_text("p0.png (48,40,3)\n")
    with pytest.raises(UserError, match=r"write GT and LQ in each line, as in 'a\.png, b\.png'\.$"):
        check_dataset(section, "datasets:train")


def test_folders_of_images_below_an_empty_root_are_named(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    for folder in ("gt", "lq"):
        (tmp_path / folder / "more").mkdir()
        for file in (tmp_path / folder).glob("*.png"):
            file.rename(tmp_path / folder / "more" / file.name)
    with pytest.raises(UserError, match=r"gt holds no images, but those in .*gt/more; name these\.$"):
        check_dataset(section, "datasets:train")


def test_lists_in_other_encodings_and_with_repetitions(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    section = pairs(tmp_path, meta_info_file=str(listed))
    listed.write_bytes("p0.png\r\np1.png (48,40,3) 1\r\np0.png\r\n".encode("utf-16"))
    found = check_dataset(section, "datasets:train")
    assert found.count == 3
    assert found.notes == [f"datasets:train: {listed} lists images more than once: 3 lines name 2 images."]
    for content in (b"p\xe9.png\n", b"p0\0.png\n"):
        listed.write_bytes(content)
        with pytest.raises(UserError, match=r"datasets:train: .*list\.txt is no text"):
            check_dataset(section, "datasets:train")


def test_images_that_are_given_twice_are_told(tmp_path: Path, tiny_data: Path) -> None:
    """A root that stands twice in a list, links, and keys of an LMDB; one GT of two LQ is no repetition."""
    section = pairs(tmp_path)
    gt, lq = section["dataroot_gt"], section["dataroot_lq"]
    for folder in (tmp_path / "gt", tmp_path / "lq"):
        shutil.copytree(folder, tmp_path / "other" / folder.name)
    others = [str(tmp_path / "other" / name) for name in ("gt", "lq")]

    def told(**changed: Any) -> list[str]:
        return check_dataset({**section, **changed}, "datasets:train").notes

    assert told(dataroot_gt=[gt, others[0]], dataroot_lq=[lq, others[1]]) == []
    assert told(dataroot_gt=[gt, gt], dataroot_lq=[lq, others[1]]) == []
    words = "datasets:train: 3 images are given more than once, and so seen more often than others"
    (note,) = told(dataroot_gt=[gt, gt + "/"], dataroot_lq=[lq, lq])
    assert note.startswith(words)
    (tmp_path / "linked").symlink_to(tmp_path)
    (note,) = told(dataroot_gt=[gt, str(tmp_path / "linked/gt")], dataroot_lq=[lq, str(tmp_path / "linked/lq")])
    assert note.startswith(words)
    for name in ("gt", "lq"):
        (tmp_path / name / "q.png").symlink_to(tmp_path / name / "p0.png")
    (note,) = told()
    assert note.startswith("datasets:train: an image is given more than once")
    assert "q.png" in note or "p0.png" in note
    base = {"name": "x", "type": "SingleImageDataset", "phase": "val", "scale": 2, "io_backend": {"type": "lmdb"}}
    stored = str(tiny_data / "train_LR.lmdb")
    (note,) = check_dataset({**base, "dataroot_lq": [stored, stored]}, "datasets:val").notes
    assert "given more than once" in note
    assert stored in note


def test_sixteen_bits_of_which_few_are_used_are_told(tmp_path: Path) -> None:
    """Values of 12 bits in 16 are read as nearly black; one dark picture among others is nothing odd."""
    section = pairs(tmp_path)
    for folder in ("gt", "lq"):
        for index in range(3):
            file = tmp_path / folder / f"p{index}.png"
            save(file, cv2.imread(str(file)).astype(np.uint16) * 16)
    (note,) = check_dataset(section, "datasets:train").notes
    assert "hold 16 bits of which they use 12" in note
    assert "multiply their values by 16" in note
    save(tmp_path / "gt" / "p0.png", picture(48, 40).astype(np.uint16) * 257)
    assert check_dataset(section, "datasets:train").notes == []


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    import tqdm

    made: list[Any] = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(options)
            super().__init__(*args, **{**options, "disable": not terminal})

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(decoding, "SILENCE", 0)
    monkeypatch.setattr(decoding, "GROUP", 2)
    section = pairs(tmp_path)
    check_dataset(section, "datasets:train")
    lines = [line for line in capsys.readouterr().out.splitlines() if "are decoded" in line]
    counts = [2, 4]
    assert lines == ([] if terminal else [f"{n} of 6 images of datasets:train are decoded." for n in counts])
    assert made[0]["disable"] is None  # tqdm finds out itself


@pytest.mark.parametrize("kind", ["BicubicDataset", "ImageNetPairedDataset"])
def test_images_that_are_nothing_once_they_are_shrunk(tmp_path: Path, kind: str) -> None:
    section = pairs(tmp_path, type=kind, phase="val")
    del section["dataroot_lq"]
    assert check_dataset(section, "datasets:val").count == 3
    save(tmp_path / "gt" / "p2.png", picture(48, 1))
    with pytest.raises(UserError, match=r"p2\.png \(1x48\) cannot be shrunk by scale 2; remove what is so small"):
        check_dataset(section, "datasets:val")


@pytest.mark.parametrize("kind", ["DownsampleImageDataset", "ImageNetPairedDataset"])
def test_a_first_item_that_fails_comes_without_places_in_opencv(tmp_path: Path, kind: str) -> None:
    section = pairs(tmp_path, type=kind, gt_size=10**5)
    del section["dataroot_lq"]
    with pytest.raises(UserError, match=r"gt_size 100000, do not fit into memory \(OpenCV fails \(.*choose a smaller"):
        check_dataset(section, "datasets:train")
    with pytest.raises(UserError, match=r"cannot read its first image: OpenCV fails \(!_src\.empty\(\)\)\.$"):
        check_dataset({**section, "gt_size": 0, "type": "ImageNetPairedDataset"}, "datasets:train")


@pytest.mark.parametrize(("size", "channels", "words"), [
    ((0, 4), 3, "empty"), ((4, 4), 2, "number of channels"),
])  # fmt: skip
def test_words_of_opencv_name_no_place_in_its_source(size: tuple[int, int], channels: int, words: str) -> None:
    with pytest.raises(cv2.error) as caught:
        cv2.cvtColor(np.zeros((*size, channels), np.float32), cv2.COLOR_BGR2GRAY)
    line = first_line(caught.value)
    assert re.search(words, line)
    assert re.fullmatch(r"OpenCV fails \(.+\)", line)
    assert not re.search(r"\.[ch]pp|error|function|\n", line)
    assert first_line(ValueError("a ", "b\nc")) == "a b"  # as BasicSR raises some
    assert first_line(KeyError()) == "KeyError"


def test_options_that_the_data_set_misses(tmp_path: Path) -> None:
    section = pairs(tmp_path)
    del section["use_rot"]
    with pytest.raises(
        UserError, match="datasets:train: the option 'use_rot' is missing, which PairedImageDataset reads"
    ):
        check_dataset(section, "datasets:train")


def test_misspelt_type(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'PairedImageDateset' is unknown; did you mean 'PairedImageDataset'"):
        check_dataset(pairs(tmp_path, type="PairedImageDateset"), "datasets:train")


def test_a_file_is_no_root(tmp_path: Path) -> None:
    section = pairs(tmp_path, dataroot_gt=str(tmp_path / "gt/p0.png"))
    with pytest.raises(UserError, match=r"datasets:train:dataroot_gt: .*p0\.png is a file; give the folder"):
        check_dataset(section, "datasets:train")
