"""All figures: the files, their size and type, what is taken where nothing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from analyzing import TINY_ESC, analyze, option_file, picture
from conftest import TINY, randomise
from PIL import Image

from esc_arch import ESC, ESCLTE
from esc_arch.analyze import __main__ as command
from esc_arch.analyze import result as results
from esc_arch.analyze import style
from esc_arch.analyze.networks import DEFAULT, read_subjects
from esc_arch.analyze.photographs import central, read_photographs
from esc_arch.analyze.result import Result
from esc_arch.common.errors import UserError
from esc_arch.weights import write_weights


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("what", command.KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_figures_can_be_printed_and_read(what: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as a column or two, type of 7 points at least, nothing beyond the borders, four files."""
    from matplotlib.text import Text

    drawn: list[Result] = []

    def write(result: Result, *args: Any) -> list[str]:
        drawn.append(result)
        return results.write(result, *args)

    monkeypatch.setattr(command, "write", write)
    networks = [option_file("a", TINY_ESC), option_file("a_network_with_a_long_name", TINY_ESC)][:count]
    steps = ["--steps", "2"] if what == "lam" else []
    images = ["--images", picture("p.png", 40, 40), picture("q.png", 40, 40, seed=1)]
    assert analyze(what, *networks, *images, "--side", "16", *steps, "-o", "out", "--dpi", "100") == 0
    files = sorted(file.name for file in Path("out").iterdir())
    assert files == sorted(what + suffix for suffix in results.SUFFIXES)
    figure = drawn[0].figure
    width, height = figure.get_size_inches()
    assert width in (style.COLUMN, style.PAGE)
    assert Image.open(f"out/{what}.png").size == (int(width * 100), int(height * 100))
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(Text))
    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
            box = text.get_window_extent()
            assert not text.get_text() or (box.x0 > -2 and box.x1 < figure.bbox.x1 + 2), text.get_text()


def test_what_is_taken_where_nothing_is_named() -> None:
    (subject,) = read_subjects([], [])
    assert (subject.label, subject.scale, subject.window, subject.untrained) == (DEFAULT, 4, 32, "")
    assert not any(parameter.requires_grad for parameter in subject.network.parameters())
    for photograph in read_photographs(None):
        assert central(photograph.lq(4), 64).shape == (64, 64, 3)


def test_untrained_networks_are_the_same_each_time() -> None:
    file = option_file("a", TINY_ESC)
    first, again = (read_subjects([file], [])[0].network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_weights_of_option_files() -> None:
    network = randomise(ESC(**TINY))
    write_weights("w.safetensors", network.state_dict())
    (subject,) = read_subjects([option_file("a", TINY_ESC)], ["a.yml=w.safetensors"])
    assert subject.title == "a"
    assert torch.equal(subject.network.state_dict()["plk_filter"], network.plk_filter)


def test_networks_for_any_scale() -> None:
    arguments = {**TINY, "hidden_dim": 8, "hidden_list": [8]}
    file, image = option_file("a", {"type": "ESCLTE", **arguments}), torch.rand(1, 3, 8, 8)
    write_weights("w.pth", ESCLTE(**arguments).state_dict())
    for names, scale, expected in (([file], None, 2), ([file], 3, 3), (["w.pth"], 3, 3)):
        (subject,) = read_subjects(names, [], scale)
        assert subject(image).shape[2:] == (8 * expected, 8 * expected)


def test_networks_are_run_as_in_evaluation() -> None:
    """Padded to whole windows by reflection, and cropped."""
    (subject,) = read_subjects([option_file("a", {**TINY_ESC, "window_size": 8})], [])
    image = torch.rand(1, 3, 11, 16)
    padded = torch.nn.functional.pad(image, (0, 0, 0, 5), mode="reflect")
    assert torch.equal(subject(image), subject.network(padded)[..., :22, :])


def test_pictures_of_all_sorts() -> None:
    rng = np.random.default_rng(0)
    grey, alpha = rng.integers(0, 65536, (6, 7), np.uint16), rng.integers(0, 256, (6, 7, 4), np.uint8)
    Path("folder").mkdir()
    Image.fromarray(grey).save("folder/a.png")
    Image.fromarray(alpha).save("folder/b.png")
    first, second = read_photographs(["folder"])
    assert (first.name, second.name) == ("a", "b")
    assert first.pixels == pytest.approx((grey / 65535).astype(np.float32)[..., None].repeat(3, 2))
    assert second.pixels == pytest.approx(alpha[..., :3] / np.float32(255))
    gt = second.gt(4)
    assert gt is not None
    assert gt.shape == (4, 4, 3)
    assert second.lq(2).shape == (3, 3, 3)
    with pytest.raises(UserError, match="b has 4 x 4 pixels, too few to be shrunk 4 times"):
        second.lq(4)
    (lq,) = read_photographs(["folder/b.png"], is_lq=True)
    assert lq.gt(2) is None
    assert lq.lq(2) is lq.pixels


def test_what_may_be_missed_about_pictures_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    whole = np.full((6, 7, 4), 255, np.uint8)
    Image.fromarray(whole).save("folder/opaque.png")
    Image.fromarray(whole // 2).save("folder/clear.png")
    thumbnail = np.full((6, 7), 9, np.uint8)
    with tifffile.TiffWriter("folder/pages.tif") as tiff:
        for pixels in (np.full((60, 70), 9, np.uint8), thumbnail):
            tiff.write(pixels, metadata=None)
    read_photographs(["folder"])
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "Note: folder/clear.png: it has transparent pixels, whose colours are taken as if they were seen",
        "Note: folder/pages.tif: its other page, of 7 x 6, is left as a thumbnail",
    ]


def test_where_files_go() -> None:
    assert results.stem_of("out", "lam") == str(Path("out/lam"))
    assert results.stem_of("out/figure.PDF", "lam") == "out/figure"
    assert results.stem_of("v1.2", "lam") == str(Path("v1.2/lam"))
