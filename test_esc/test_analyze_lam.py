"""Local attribution maps: complete, blind outside the receptive field, and measured as in the paper."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from analyzing import TINY_ESC, TINY_SWIN, analyze, arrays, option_file, picture, refused, summary
from conftest import TINY, randomise
from torch import nn

from esc_arch import ESC
from esc_arch.analyze.attribution import attribute, blurred_path, diffusion_index, edges, gini, holding
from esc_arch.analyze.places import surrounding


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def noise(side: int = 24) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


class Kinked(nn.Module):
    """A network that is linear in pieces, and enlarges twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("network", [randomise(ESC(**TINY)), randomise(Kinked())], ids=["ESC", "ReLU"])
@pytest.mark.parametrize("sigma", [1.2, 5.0])
def test_attributions_sum_up_to_the_difference(network: nn.Module, sigma: float) -> None:
    """With the default number of steps."""
    found = attribute(network.eval(), noise(), (16, 16, 16, 16), sigma, steps=16)
    assert abs(found.difference) > 1
    assert found.pixels.sum() == pytest.approx(found.difference, rel=0.01)
    assert found.incompleteness <= 0.01


def test_kinks_are_found() -> None:
    """Of a network with a few of them, on a long path in few steps."""
    few = attribute(randomise(Kinked(), seed=3), noise(12), (8, 8, 8, 8), 5, steps=2)
    many = attribute(randomise(Kinked(), seed=3), noise(12), (8, 8, 8, 8), 5, steps=64)
    assert few.incompleteness <= 0.01
    assert np.abs(few.pixels - many.pixels).max() < 0.1 * np.abs(many.pixels).max()


def test_nothing_is_attributed_outside_the_receptive_field() -> None:
    """Of one 5x5 convolution: the window and two pixels around it, and all of them."""
    network = randomise(nn.Conv2d(3, 3, 5, padding=2))
    found = attribute(network, noise(), (8, 10, 6, 4), 1.2, steps=4)
    inside = np.zeros((24, 24), bool)
    inside[10 - 2 : 14 + 2, 8 - 2 : 14 + 2] = True
    assert (found.pixels[:, ~inside] == 0).all()
    inside[15, 15] = False  # the last corner of a window is in none of its differences
    assert (found.pixels[:, inside] != 0).any(axis=0).all()


def test_the_detector_sees_edges_in_its_window_alone() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4:] = 1
    flat, edge = edges(image, (4, 0, 4, 8)), edges(image, (2, 0, 4, 8))
    assert edge.item() == pytest.approx(7, abs=0.05)  # an edge of height 1 beside seven pixels
    assert flat.item() == pytest.approx(0, abs=0.05)


def test_the_path_has_steps_of_equal_change_and_ends_at_the_image() -> None:
    image = noise()[0].numpy()
    path = blurred_path(image, 4, 8)
    steps = [np.linalg.norm(after - before) for before, after in pairwise(path)]
    assert np.allclose(steps, np.mean(steps), rtol=0.1)
    assert np.allclose(path[-1], image)
    assert path[0].std() < 0.2 * image.std()


def test_a_picture_of_one_colour_has_attributions_of_nothing() -> None:
    found = attribute(Kinked(), torch.full((1, 3, 12, 12), 0.5), (4, 4, 8, 8), 1.2, steps=4)
    assert (found.pixels == 0).all()
    assert found.difference == 0
    assert diffusion_index(found.map) == 100


@pytest.mark.parametrize("count", [1, 4, 50])
def test_the_diffusion_index_of_closed_forms(count: int) -> None:
    one = np.zeros(count)
    one[count // 2] = 3
    assert diffusion_index(np.full((2, count), 0.7)) == pytest.approx(100)  # all pixels count the same
    assert diffusion_index(one) == pytest.approx(100 / count)  # one counts alone
    ramp = np.arange(1, count + 1)
    assert gini(ramp) == pytest.approx((count - 1) / (3 * count))  # of 1, 2, ... n
    pairs = np.abs(ramp[:, None] - ramp[None]).mean() / (2 * ramp.mean())  # its definition
    assert gini(ramp[::-1]) == pytest.approx(pairs)


def test_the_fewest_pixels_that_hold_a_share() -> None:
    assert holding(np.array([[5, 1], [3, 1]]), 0.5) == 1
    assert holding(np.array([[5, 1], [3, 1]]), 0.8) == 2
    assert holding(np.ones(10), 0.9) == 9
    assert holding(np.zeros(4), 0.9) == 0


def test_the_part_around_a_window() -> None:
    assert surrounding((40, 40, 16, 16), 100, 100, 2, 20) == (14, 14, 20, 20)
    assert surrounding((0, 184, 16, 16), 100, 100, 2, 20) == (0, 80, 20, 20)  # at the border
    assert surrounding((7, 7, 100, 3), 100, 100, 2, 8) == (3, 0, 51, 8)  # it grows with the window
    assert surrounding((0, 0, 8, 8), 10, 12, 2, 64) == (0, 0, 10, 12)


def test_several_networks_on_one_picture() -> None:
    networks = [option_file("a", TINY_ESC), option_file("b", TINY_SWIN)]
    common = ["--images", picture("p.png", 50, 66), "--side", "16", "--window", "20,12,8,8", "--steps", "4"]
    assert analyze("lam", *networks, *common, "-o", "out") == 0
    found = summary("out/lam")
    assert [entry["network"] for entry in found["networks"]] == ["a (untrained)", "b (untrained)"]
    assert found["window"] == [20, 12, 8, 8]
    assert found["lq_pixels"] == [16, 16]
    numbers = arrays("out/lam")
    assert numbers["attributions_1"].shape == (3, 16, 16)
    assert found["networks"][1]["diffusion_index"] == diffusion_index(np.abs(numbers["attributions_1"].sum(0)))
    assert Path("out/lam.pdf").read_bytes().startswith(b"%PDF")
    first = {suffix: Path(f"out/lam.{suffix}").read_bytes() for suffix in ("png", "pdf", "json")}
    assert analyze("lam", *networks, *common, "-o", "out/again.png") == 0  # the path of the figure
    assert {suffix: Path(f"out/again.{suffix}").read_bytes() for suffix in first} == first


def test_the_window_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The strongest edges, at a place of LQ."""
    from PIL import Image

    pixels = np.full((96, 96, 3), 128, np.uint8)
    pixels[48:64:2, 32:48] = 0
    pixels[0:8] = [[0, 255, 0]]  # at the border, where it is not looked for
    Image.fromarray(pixels).save("p.png")
    assert analyze("lam", option_file("a", TINY_ESC), "--images", "p.png", "--side", "16", "--steps", "2") == 0
    left, top, width, height = summary("results/analyze/lam")["window"]
    assert (width, height) == (16, 16)
    assert abs(left - 32) <= 8
    assert abs(top - 48) <= 8
    assert "a is untrained" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    own, p = option_file("a", TINY_ESC), picture("p.png", 40, 48)
    small, broken = picture("small.png", 12, 40), Path("broken.png")
    broken.write_bytes(Path(p).read_bytes()[:60])
    Path("empty").mkdir()
    other = option_file("x3", {**TINY_ESC, "upscaling_factor": 3}, 3)
    lam = ["lam", own, "--images"]
    assert "48 x 40" in refused(capsys, *lam, p, "--window", "40,0,9,8")
    assert "2 x 2" in refused(capsys, *lam, p, "--window", "4,4,1,8")
    assert "X,Y,W,H" in refused(capsys, *lam, p, "--window", "4,4,8")
    assert "small is smaller than the window" in refused(capsys, *lam, small)
    assert "broken.png" in refused(capsys, *lam, "broken.png")
    assert "missing.png" in refused(capsys, *lam, "missing.png")
    assert "no picture" in refused(capsys, *lam, "empty")
    assert "--sigma" in refused(capsys, *lam, p, "--sigma", "nan")
    assert "different factors" in refused(capsys, "lam", own, other, "--images", p)
    assert "twice" in refused(capsys, "lam", own, own, "--images", p)
    assert "neither a file nor weights" in refused(capsys, "lam", "ESC_lite_x4", "--images", p)
    assert "no section network_g" in refused(capsys, "lam", _without_network(), "--images", p)
    assert "does not exist" in refused(capsys, *lam, p, "--weights", "a.yml=none.pth")


def _without_network() -> str:
    Path("no.yml").write_text("name: no\n")
    return "no.yml"


def test_an_extra_that_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "captum" else real(name))
    assert "esc_arch[analyze]" in refused(capsys, "lam", option_file("a", TINY_ESC))


def test_weights_and_a_wrong_scale(capsys: pytest.CaptureFixture[str]) -> None:
    from esc_arch.weights import write_weights

    write_weights("w.pth", ESC(**TINY, upscaling_factor=3).state_dict())
    p, own = picture("p.png", 40, 48), option_file("a", TINY_ESC)
    common = ["--images", p, "--side", "8", "--window", "8,8,8,8", "--steps", "2"]
    assert "does not fit" in refused(capsys, "lam", own, "--weights", "a.yml=w.pth", *common)
    wrong = option_file("wrong", TINY_ESC, scale=3)
    assert "does not enlarge by that factor" in refused(capsys, "lam", wrong, *common)
    assert analyze("lam", "w.pth", *common) == 0
    assert summary("results/analyze/lam")["networks"][0]["network"] == "w"
