"""Which files `upscale` takes for pictures, what it says of the others, and where results may be written."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, randomise
from PIL import Image

from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import DiskError
from esc_arch.pictures.sides import stored_sides
from esc_arch.upscale import jobs, work
from esc_arch.upscale.__main__ import main
from esc_arch.upscale.jobs import plan_jobs, try_places
from esc_arch.weights import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = str(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    write_weights(file, randomise(ESC(**TINY)).state_dict())
    return file


@pytest.fixture
def run(folder: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in an empty folder; return the exit code, the summary, the errors and what was written."""

    def command(*arguments: str) -> tuple[int, str, list[str], list[str]]:
        code = 0
        try:
            main([*arguments, "-o", "out", "--weights", weights])
        except SystemExit as stop:
            code = int(stop.code or 0)
        told = capsys.readouterr()
        out = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file())
        return code, told.out.partition("; out, ")[0].strip(), told.err.splitlines(), out

    return command


def picture(name: str | Path, sides: tuple[int, int] = (9, 9)) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*sides, 3), np.uint8)
    with open(name, "wb") as stream:
        Image.fromarray(pixels).save(stream, "PNG")


def test_every_link_to_a_file_is_a_picture_of_its_own(run: Any) -> None:
    picture("in/a.png")
    os.symlink("a.png", "in/b.png")
    os.link("in/a.png", "in/c.png")
    os.symlink("gone.png", "in/d.png")
    os.symlink("gone", "in/e.png")
    os.symlink("f.png", "in/f.png")
    code, summary, errors, out = run("in")
    assert code == 1
    assert out == ["a_x2.png", "b_x2.png", "c_x2.png"]
    assert summary == "3 enlarged, 3 failed"
    for name, to in (("d", "gone.png"), ("e", "gone"), ("f", "f.png")):
        assert sum(f"in/{name}.png cannot be read" in error and f"a link to {to}" in error for error in errors) == 1


def test_links_to_folders_are_followed_and_loops_noticed(run: Any) -> None:
    picture("other/a.png")
    picture("in/sub/b.png")
    os.symlink("../other", "in/link")
    os.symlink("../other", "in/again")
    os.symlink("..", "in/sub/up")
    os.symlink(".", "in/here")
    code, summary, errors, out = run("in")
    assert (code, errors) == (0, [])
    assert out == ["again/a_x2.png", "link/a_x2.png", "sub/b_x2.png"]
    assert summary == "3 enlarged, 2 passed over (2 folders in themselves)"


def test_leftovers_of_systems_are_passed_over_and_counted(run: Any) -> None:
    for name in ("a.png", "._a.png", "@eaDir/a.png/thumb.png", "__MACOSX/._a.png", ".Trash-1000/files/b.png"):
        picture(f"in/{name}")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "more.TXT", "raw.cr2", "README"):
        Path("in", name).write_bytes(b"x")
    code, summary, errors, out = run("in")
    assert (code, errors, out) == (0, [], ["a_x2.png"])
    kinds = "7 leftovers of a system, 2 .txt, 1 .cr2, 1 without a suffix"
    assert summary.startswith("1 enlarged, 11 passed over (")
    assert sorted(summary.partition("(")[2].rstrip(")").split(", ")) == sorted(kinds.split(", "))
    shutil.rmtree("out")
    assert run(*sorted(f"in/{name}" for name in os.listdir("in") if not name.endswith(("t", "T", "2", "E"))))[3] == out
    with pytest.raises(UserError, match=r"no pictures .* There were 1 passed over \(1 leftover of a system\)"):
        plan_jobs(["in/Thumbs.db"], "out", "")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".MPO", ".tif", ".TIFF", ".dib", ".Png", ".webp"])
def test_suffixes_of_pictures(run: Any, suffix: str) -> None:
    picture(f"in/a{suffix}")
    code, _, errors, out = run("in")
    assert (code, errors, out) == (0, [], [f"a_x2{suffix}"])


def test_cameras_that_write_two_files_of_a_picture(folder: Path) -> None:
    """Stereo cameras write .MPO beside .JPG, others .HIF: none is passed over, and no results meet."""
    for name in ("DSCF1.JPG", "DSCF1.MPO", "DSCF1.HIF"):
        picture(name)
    plan = plan_jobs(["."], "out", "_x2")
    assert [job.target for job in plan.jobs] == [f"out/DSCF1_x2{suffix}" for suffix in (".png", ".JPG", ".MPO")]
    assert not plan.passed


NAMES = [
    "x" * 248,  # and _x2.png
    "-o",
    " a  b ",
    "a\nb",
    "a.b.c",
    ".hidden",
    "[a]*?",
    "%s{}",
    "\U0001f426\u0301",
    "\x1b[31m",
    os.fsdecode(b"\xff\xfe"),
]


def test_any_name(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        picture(f"in/{name}.png")
        (Path("in") / f"bad {name[:240]}.png").write_bytes(b"no picture")
    code, summary, errors, out = run("in")
    assert out == sorted(f"{name}_x2.png" for name in NAMES)
    assert summary == f"{len(NAMES)} enlarged, {len(NAMES)} failed"
    assert code == 1
    assert len(errors) == len(NAMES)
    assert all(error.startswith("Error: in/bad ") and error.isprintable() for error in errors)


def test_names_too_long_for_the_result_are_told_and_the_rest_is_done(run: Any) -> None:
    picture(f"in/{'x' * 249}.png")
    picture("in/a.png")
    code, summary, errors, out = run("in")
    assert (code, out, summary) == (1, ["a_x2.png"], "1 enlarged, 1 failed")
    assert "the name of the result has 256 bytes" in errors[0]
    assert run("in", "--suffix", "")[:2] == (0, "2 enlarged")


def test_what_is_no_file_is_told_and_not_waited_for(run: Any) -> None:
    picture("in/a.png")
    os.mkfifo("in/b.png")
    code, _, errors, out = run("in")
    assert (code, out) == (1, ["a_x2.png"])
    assert "in/b.png is no file" in errors[0]


def test_output_folder_within_the_input_folder(run: Any) -> None:
    picture("a.png")
    assert run(".")[1] == "1 enlarged"
    assert run(".")[1] == "0 enlarged, 1 there already (--overwrite makes them anew), 1 passed over (1 output folder)"
    assert run(".", "--suffix", "_big")[3] == ["a_big.png", "a_x2.png"]
    assert run("out/a_big.png", "--suffix", "_more")[3] == ["a_big.png", "a_big_more.png", "a_x2.png"]


def test_results_of_other_factors_among_their_sources(folder: Path) -> None:
    """The second day's run with another factor does not enlarge what the first day's made of the same pictures."""
    for name in ("a.png", "b.png", "c_x2.png", "IMG.png", "IMG_1234.png"):
        picture(name, (10, 15))
    for name, sides in {"a_x2.png": (20, 30), "a_x2.7.png": (27, 40), "a_x2_x4.jpg": (80, 120)}.items():
        picture(name, sides)
    plan = plan_jobs(["."], ".", "_x4")
    assert [job.source for job in plan.jobs] == [f"./{name}.png" for name in ("IMG", "IMG_1234", "a", "b", "c_x2")]
    assert plan.passed == {jobs.RESULT: 3}
    assert len(plan_jobs(["."], "out", "_x4").jobs) == 8  # elsewhere nothing says that they are results


def test_pictures_that_are_called_like_results(folder: Path) -> None:
    """One of another size was not made of its neighbour; turned ones may be, and so may what does not tell its size."""
    for name, sides in {"a.png": (10, 15), "a_x2.png": (10, 15), "a_x3.png": (45, 30), "a_x4.png": (60, 41)}.items():
        picture(name, sides)
    Path("a_x5.png").write_bytes(b"cut off")
    for inputs in (["."], sorted(os.listdir("."))):
        plan = plan_jobs(inputs, ".", "_x8")
        assert [os.path.normpath(job.source) for job in plan.jobs] == ["a.png", "a_x2.png"]
        assert plan.passed == {jobs.RESULT: 3}


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "tif", "gif", "ppm", "tga", "ico", "jp2"])
def test_sides_by_the_header(folder: Path, kind: str) -> None:
    """They are known without a word on what is odd about the rest, which reading tells."""
    file = f"a.{kind}"
    Image.fromarray(np.zeros((24, 16, 3), np.uint8)).save(file, **({"sizes": [(16, 24)]} if kind == "ico" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stored_sides(file) == (24, 16)
        Path(file).write_bytes(Path(file).read_bytes()[:9])
        assert stored_sides(file) is None
    assert stored_sides("nowhere.png") is None


def test_results_that_would_meet_are_told_before_anything(run: Any) -> None:
    for name in ("1/a.png", "2/a.png", "2/b.png"):
        picture(name)
    os.symlink("1", "3")
    code, _, errors, out = run("1", "2")
    assert (code, out) == (1, [])
    assert errors == [
        "Error: 2/a.png would be written over out/a_x2.png, like another picture, 1/a.png; rename one, or enlarge "
        "them into different folders."
    ]
    assert run("1", "3", "1/a.png")[:2] == (0, "1 enlarged")  # the same by other names


@pytest.mark.parametrize("suffix", ["/../x", "a/b", "\0"])
def test_a_suffix_that_leads_elsewhere(run: Any, suffix: str) -> None:
    picture("in/a.png")
    code, _, errors, out = run("in", "--suffix", suffix)
    assert (code, out) == (1, [])
    assert errors[0].startswith("Error: --suffix: ")
    assert errors[0].endswith("must be a part of a name; name the folder by -o.")


@pytest.mark.parametrize("output", ["b.psd", "b.EXR", "new/b.pdf"])
def test_a_file_of_a_kind_that_is_not_written_is_no_folder(folder: Path, output: str) -> None:
    picture("a.png")
    with pytest.raises(UserError, match="the suffix must be one of"):
        plan_jobs(["a.png"], output, "_x2")
    assert plan_jobs(["."], output, "_x2").jobs[0].target == os.path.join(output, "a_x2.png")
    os.makedirs(output)  # somebody's folder may be called so
    assert plan_jobs(["a.png"], output, "_x2").jobs[0].target == os.path.join(output, "a_x2.png")


@pytest.mark.parametrize("output", ["plain", "dangling", os.devnull])
def test_a_place_that_is_no_folder(folder: Path, output: str) -> None:
    picture("a.png")
    Path("plain").write_text("something else")
    os.symlink("nowhere", "dangling")
    for inputs in (["a.png"], ["."]):
        with pytest.raises(UserError, match="is there and no folder; name a folder, a file with the suffix"):
            plan_jobs(inputs, output, "_x2")
    assert Path("plain").read_text() == "something else"


def test_names_that_differ_in_capital_letters_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("in/a.png")
    picture("in/A.png")
    plan = plan_jobs(["in"], "out", "")
    try_places(plan, "out", overwrite=False)
    assert len(plan.jobs) == 2
    monkeypatch.setattr(jobs, "try_folder", lambda folder: True)
    with pytest.raises(UserError, match="like another picture"):
        try_places(plan, "out", overwrite=False)


def test_places_that_take_nothing_are_told_before_anything_is_computed(
    run: Any, weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "sub/b", "c"):
        picture(f"in/{name}.png")
    Path("out/c_x2.png").mkdir(parents=True)
    Path("out/sub").touch()
    code, summary, errors, out = run("in")
    assert (code, out) == (1, ["a_x2.png", "sub"])
    assert summary == "1 enlarged, 2 failed"
    assert any("out/c_x2.png is a folder" in error for error in errors)
    assert any("in/sub/b.png: out/sub cannot be made (out/sub is a file)" in error for error in errors)
    monkeypatch.setattr(work, "enlarge_to", None)  # nothing is computed
    for place in ("in/a.png/sub", "out/sub/a.png"):
        with pytest.raises(SystemExit):
            main(["in/c.png", "-o", place, "--weights", weights])
        assert "cannot be written (" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_disk_is_told_once_and_ends_the_run(run: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for name in "abcd":
        picture(f"in/{name}.png")
    really, calls = os.replace, []

    def full(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        really(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, summary, errors, out = run("in")
    assert (code, summary, out) == (1, "1 enlarged, 1 failed, 2 not begun", ["a_x2.png"])
    (error,) = errors
    assert "the disk at /" in error
    monkeypatch.undo()


def test_full_disk_before_the_first_picture(folder: Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("in/a.png")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError):
        try_places(plan_jobs(["in"], "out", ""), "out", overwrite=False)
    assert sorted(os.listdir()) == ["in"]


def test_a_file_too_large_for_the_disk_is_that_file_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        picture(f"in/{name}.png")
    really = os.replace

    def limited(source: Any, target: Any) -> None:
        if os.path.basename(target) == "b_x2.png":
            raise OSError(errno.EFBIG, "File too large")
        really(source, target)

    monkeypatch.setattr(os, "replace", limited)
    assert run("in")[3] == ["a_x2.png", "c_x2.png"]
    monkeypatch.undo()
