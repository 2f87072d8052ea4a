"""The command `python -m esc_arch.upscale` as a user sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from PIL import Image

from esc_arch.archs import ESC, ESCLTE
from esc_arch.common.errors import UserError
from esc_arch.upscale import upscale_image, work
from esc_arch.upscale.__main__ import main
from esc_arch.upscale.jobs import plan_jobs
from esc_arch.weights import write_weights

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = str(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    write_weights(file, randomise(ESC(**TINY)).state_dict())
    return file


def picture(file: Path, *, height: int = 12, width: int = 10) -> np.ndarray[Any, Any]:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return pixels


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_files_folders_and_patterns(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = picture(tmp_path / "in/a.png")
    for name in ("in/deep/er/b.jpg", "c1.webp", "c2.bmp", "d.tif"):
        picture(tmp_path / name)
    (tmp_path / "in/notes.txt").write_text("no picture")
    out = tmp_path / "out"
    main([str(tmp_path / "in"), str(tmp_path / "c?.*"), str(tmp_path / "d.tif"), "-o", str(out), "--weights", weights])
    assert written(out) == ["a_x2.png", "c1_x2.webp", "c2_x2.bmp", "d_x2.tif", "deep/er/b_x2.jpg"]
    np.testing.assert_array_equal(np.asarray(Image.open(out / "a_x2.png")), upscale_image(first, weights))
    told = capsys.readouterr().out
    assert re.fullmatch(rf"5 enlarged, 1 passed over \(1 \.txt\); {out}, [\d.]+ s\n", told)


def test_single_file_to_single_file(tmp_path: Path, weights: str) -> None:
    picture(tmp_path / "a.png")
    main([str(tmp_path / "a.png"), "-o", str(tmp_path / "b.webp"), "--weights", weights, "--scale", "2"])
    assert written(tmp_path) == ["a.png", "b.webp"]


def test_bad_pictures_are_named_and_the_rest_is_done(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(6):
        picture(tmp_path / f"in/{index}.png")
    whole = (tmp_path / "in/1.png").read_bytes()
    bad = {"corrupt.png": whole[: len(whole) // 2], "empty.png": b"", "text.jpg": b"text"}
    for name, content in bad.items():
        (tmp_path / "in" / name).write_bytes(content)
    picture(tmp_path / "in/huge.png", height=60, width=60)
    out = tmp_path / "out"
    command = [str(tmp_path / "in"), "-o", str(out), "--weights", weights, "--max-pixels", "3000", "--suffix", ""]
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 1
    assert written(out) == [f"{index}.png" for index in range(6)]
    told = capsys.readouterr()
    for name in [*bad, "huge.png"]:
        assert f"Error: {tmp_path / 'in' / name} " in told.out + told.err
    assert "6 enlarged, 4 failed" in told.out

    times = {name: (out / name).stat().st_mtime_ns for name in written(out)}
    (out / "3.png").unlink()
    with pytest.raises(SystemExit):
        main(command)
    assert "1 enlarged, 5 there already (--overwrite makes them anew), 4 failed" in capsys.readouterr().out
    assert all((out / name).stat().st_mtime_ns == times[name] for name in times if name != "3.png")
    for name in [*bad, "huge.png"]:
        (tmp_path / "in" / name).unlink()
    main([*command, "--overwrite"])
    assert "6 enlarged" in capsys.readouterr().out
    assert all((out / name).stat().st_mtime_ns != times[name] for name in times)


def test_results_are_no_pictures_to_enlarge_again(tmp_path: Path, weights: str) -> None:
    for name in ("a.png", "deep/b.png"):
        picture(tmp_path / name)
    for _ in range(2):
        main([str(tmp_path), "-o", str(tmp_path), "--weights", weights])
        assert written(tmp_path) == ["a.png", "a_x2.png", "deep/b.png", "deep/b_x2.png"]
    picture(tmp_path / "in/c.png")
    for _ in range(2):
        main([str(tmp_path / "in"), "-o", str(tmp_path / "in/out"), "--weights", weights, "--suffix", ""])
        assert written(tmp_path / "in") == ["c.png", "out/c.png"]


def test_inputs_are_never_overwritten(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(SystemExit):
        main([str(tmp_path), "-o", str(tmp_path), "--weights", weights, "--suffix", "", "--overwrite"])
    assert (tmp_path / "a.png").read_bytes() == before
    assert "written over itself" in "".join(capsys.readouterr())


def test_two_pictures_of_one_name(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "1/a.png")
    picture(tmp_path / "2/a.png")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(tmp_path / "out"), "--weights", weights])
    assert not (tmp_path / "out").exists()
    assert "like another picture" in "".join(capsys.readouterr())


def test_half_precision_and_self_ensemble(tmp_path: Path, weights: str) -> None:
    pixels = picture(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--weights", weights, "--device", "cpu"]
    for dtype in (["--fp16"], ["--bf16"], ["--dtype", "bf16"], ["--dtype", "auto"]):
        main([*command, *dtype, "--overwrite"])
        half = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
        assert np.abs(half - upscale_image(pixels, weights)).max() <= (0 if "auto" in dtype else 12)
    main([*command, "--self-ensemble", "--overwrite", "--tile", "64"])
    ensemble = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(ensemble, upscale_image(pixels, weights, self_ensemble=True))


def test_bf16_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: str
) -> None:
    """It is fp32, to the last level, and the command says so."""
    pixels = picture(tmp_path / "a.png")
    monkeypatch.setattr("esc_arch.fast.kernels.has_bf16", lambda: False)
    command = [str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--weights", weights, "--device", "cpu"]
    main([*command, "--dtype", "bf16"])
    assert capsys.readouterr().err.startswith("bf16: computing in fp32, since ")
    result = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(result, upscale_image(pixels, weights))


@pytest.mark.parametrize(("scale", "size"), [("2.7", (32, 27)), ("1.5", (18, 15)), (None, (48, 40))])
def test_any_scale(tmp_path: Path, scale: str | None, size: tuple[int, int]) -> None:
    network = randomise(ESCLTE(**TINY, hidden_dim=8, hidden_list=[8]))
    write_weights(str(tmp_path / "lte.safetensors"), network.state_dict())
    pixels = picture(tmp_path / "a.png")
    options = [] if scale is None else ["--scale", scale]
    weights = str(tmp_path / "lte.safetensors")
    main([str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--weights", weights, *options])
    assert written(tmp_path / "out") == [f"a_x{scale or 4}.png"]
    result = np.asarray(Image.open(tmp_path / "out" / f"a_x{scale or 4}.png"))
    assert result.shape[:2] == size
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = network.eval()(image, size=size).clamp(0, 1) * 255
    assert np.abs(result - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51


@pytest.mark.parametrize("scale", ["0.5", "nan", "inf", "two"])
def test_impossible_scale(tmp_path: Path, weights: str, scale: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a.png", "-o", str(tmp_path), "--weights", weights, "--scale", scale])
    assert "is not a number of at least 1" in capsys.readouterr().err


def test_memory_is_asked_for_before_it_is_used(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png", height=200, width=200)
    monkeypatch.setattr(work, "free_memory", lambda: 10**5)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--weights", weights])
    assert "a.png: the result takes" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}/a.png", "-o", "{in}/o", "--weights", "{in}/nowhere.pth"], "nowhere.pth is neither a file nor weights"),
        (["{in}/a.png", "-o", "{in}/o", "--weights", "{in}/a.png"], "not a checkpoint"),
        (["{in}/a.png", "-o", "{in}/o", "--weights", ""], "The name of the weights is empty"),  # of a variable, unset
        (["{in}/a.png", "-o", "{in}/o.png", "--weights", "{w}", "--format", "jpg"], "--format jpg does not go with -o"),
        (["{in}/a.png", "-o", "{in}/o", "--quality", "9", "--lossless"], "--quality and --lossless do not go together"),
        (["{in}/a.png", "-o", "{in}/o", "--quality", "9", "--format", "png"], "--quality: PNG is never lossy"),
        (["{in}/a.png", "--weights", "{w}"], "-o: name a folder, or a file"),
        (["{in}/a.png", "-o", "", "--weights", "{w}"], "-o: name a folder, or a file"),
        (["{in}/a.png", "-", "-o", "{in}/o"], "- is one picture on standard input"),
        (["-", "-o", "{in}/o"], "has no name; {in}/o must be a file"),
        (["{in}", "-o", "-", "--weights", "{w}"], "standard output takes one picture, and there are 2"),
        (["{in}/none.png", "-o", "{in}/o", "--weights", "{w}"], "none.png does not exist"),
        (["{in}/empty", "-o", "{in}/o", "--weights", "{w}"], "there are no pictures"),
        (["{in}", "-o", "{in}/o.png", "--weights", "{w}"], "o.png is one file, and there are 2 pictures"),
        (["{in}/a.png", "-o", "{in}/o", "--weights", "{w}", "--device", "cuda:9"], "--device: cuda:9 is not there"),
        (["{in}/a.png", "-o", "{in}/o", "--weights", "{w}", "--device", "tpu"], "--device: tpu is not there"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path, weights: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "empty").mkdir()
    filled = [argument.replace("{in}", str(tmp_path)).replace("{w}", weights) for argument in arguments]
    with pytest.raises(SystemExit) as caught:
        main(filled)
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert message.replace("{in}", str(tmp_path)) in told
    assert told.startswith("Error: ")
    assert told.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_interrupted_run_leaves_nothing_half_done(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / "in" / name)
    original, calls = work.write_picture, []

    def interrupt(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(*args)

    monkeypatch.setattr(work, "write_picture", interrupt)
    command = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", weights]
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 130
    assert written(tmp_path / "out") == ["a_x2.png"]
    main(command)
    assert written(tmp_path / "out") == ["a_x2.png", "b_x2.png"]


def test_jobs_of_the_same_file_named_twice(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert len(plan_jobs([str(tmp_path), str(tmp_path / "a.png")], "out", "").jobs) == 1
    with pytest.raises(UserError, match="does not exist"):
        plan_jobs([str(tmp_path / "*.jpg")], "out", "")


def test_unreadable_file_is_named(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "in/a.png")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "in/broken.png")
    for source in (["in"], ["in/a.png", "in/broken.png"], ["in/*.png"]):
        with pytest.raises(SystemExit):
            main([*(str(tmp_path / path) for path in source), "-o", str(tmp_path / "o"), "--weights", weights])
        assert "broken.png cannot be read (No such file" in "".join(capsys.readouterr())
        assert written(tmp_path / "o") == ["a_x2.png"]


def test_started_as_a_module(tmp_path: Path, weights: str) -> None:
    picture(tmp_path / "a.png")
    command = [sys.executable, "-m", "esc_arch.upscale", "a.png", "-o", "out", "--weights", weights]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"1 enlarged; out, [\d.]+ s\n", done.stdout)
