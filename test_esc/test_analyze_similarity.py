"""Similarity of layers: CKA in closed form and in parts, attention maps of any network, layers of any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from analyzing import TINY_EDSR, TINY_ESC, TINY_SWIN, analyze, arrays, option_file, picture, refused, summary
from conftest import TINY, randomise
from torch import nn

from esc_arch import ESC
from esc_arch.analyze.attention_maps import Cosines, listened
from esc_arch.analyze.cka import LinearCKA, neighbours
from esc_arch.analyze.layers import as_image, find_layers, watched, without_padding
from esc_arch.analyze.networks import Subject, read_subjects
from esc_arch.analyze.similarity import Similarity, neighbouring_maps
from esc_arch.archs import HiT_SRF
from esc_arch.common.errors import UserError

TINY_HIT: dict[str, Any] = {"type": "HiT_SRF", "upscale": 2, "base_win_size": [4, 4], "depths": [2, 2], "embed_dim": 16}
TINY_HIT |= {"num_heads": [2, 2], "hier_win_ratios": [1, 2], "upsampler": "pixelshuffledirect", "img_range": 1.0}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def cka(*features: np.ndarray) -> np.ndarray:
    whole = LinearCKA([part.shape[1] for part in features])
    whole.add(features)
    return whole.result()


def by_kernels(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate as it is written down: kernels of all pairs of examples, without their diagonals."""

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k, m = (np.asarray(kernel) * (1 - np.eye(n)) for kernel in (a @ a.T, b @ b.T))
        trace, all_pairs, rows = np.trace(k @ m), k.sum() * m.sum(), k.sum(0) @ m.sum(1)
        return float((trace + all_pairs / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3)))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def test_cka_is_that_of_its_definition() -> None:
    x, y = random(9, 4) + 3, random(9, 6, seed=1) - 5
    assert cka(x, y)[0, 1] == pytest.approx(by_kernels(x, y), rel=1e-9)
    related = x @ random(4, 6, seed=2) + 0.1 * y
    assert cka(x, related)[0, 1] == pytest.approx(by_kernels(x, related), rel=1e-9)


def test_cka_of_a_closed_form() -> None:
    """Of the corners of a square, and of one of their coordinates."""
    corners = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    found = cka(corners, corners[:, :1], np.ones((4, 1)))
    # products of different corners are 0 and -2, of their coordinates 1 and -1; rows sum up to -2 and to -1
    square, coordinate = 16 + 64 / 6 - 16, 12 + 16 / 6 - 4
    assert found[0, 1] == pytest.approx((8 + 32 / 6 - 8) / np.sqrt(square * coordinate))
    assert found[0, 1] == pytest.approx(0.5)
    assert np.isnan(found[2]).all()  # a constant is like nothing


def test_cka_does_not_see_rotations_shifts_and_scales() -> None:
    x = random(50, 6)
    rotation, _ = np.linalg.qr(random(6, 6, seed=1))
    found = cka(x, x @ rotation, -7 * x, x + 100, random(50, 6, seed=3))
    assert found[:4, :4] == pytest.approx(np.ones((4, 4)), abs=1e-9)
    assert abs(found[0, 4]) < 0.2


@pytest.mark.parametrize("parts", [2, 7, 60])
def test_cka_in_parts_is_that_of_the_whole(parts: int) -> None:
    features = [random(60, 5), random(60, 3, seed=1) + 2, random(60, 5) ** 2]
    partial = LinearCKA([5, 3, 5])
    for rows in np.array_split(np.arange(60), parts):
        partial.add([part[rows] for part in features])
    assert partial.result() == pytest.approx(cka(*features), abs=1e-9)


def test_too_few_examples() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        cka(random(3, 2))


def test_neighbours() -> None:
    similarity = np.array([[1, 0.5, 0], [0.5, 1, np.nan], [0, np.nan, 1]])
    assert neighbours(similarity) == 0.5
    assert neighbours(np.ones((1, 1))) is None


def subject(network: nn.Module, window: int = 1) -> Subject:
    return Subject("it", network.eval().requires_grad_(False), 2, window)


class Recorded(nn.Module):
    """Attention in three ways, of which each keeps its map."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.qkv = nn.Linear(8, 24)
        self.softmax = nn.Softmax(dim=-1)
        self.map = torch.zeros(0)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        mask = torch.arange(tokens.shape[1]) % 3 > 0
        scores = (q @ k.transpose(-2, -1) / 2).masked_fill(~mask, -torch.inf)
        with torch._C.DisableTorchFunction():
            self.map = scores.softmax(-1).mean(1)
        if self.way == "fused":
            return F.scaled_dot_product_attention(q, k, v, mask.expand_as(scores)).transpose(1, 2).flatten(2)
        weights = self.softmax(scores) if self.way == "module" else F.softmax(scores, dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("way", ["fused", "module", "function"])
def test_attention_maps_are_those_that_are_computed(way: str) -> None:
    network = nn.Sequential(Recorded(way), Recorded(way))
    with torch.no_grad(), listened(network) as found:
        network(torch.rand(3, 5, 8))
    assert [name[0] for name in found.names] == ["0", "1"]
    for module, weights in zip(network, found.maps, strict=True):
        assert torch.allclose(weights, module.map, atol=1e-6)


def test_attention_maps_of_esc_are_those_of_windows() -> None:
    network = randomise(ESC(**{**TINY, "n_blocks": 2}))
    with torch.no_grad(), listened(network) as found:
        network(torch.rand(1, 3, 16, 24))
    assert found.names == ["blocks.0.attn", "blocks.1.attn"]
    assert [tuple(map.shape) for map in found.maps] == [(6, 64, 64)] * 2
    assert torch.allclose(found.maps[0].sum(-1), torch.ones(6, 64), atol=1e-5)


def test_correlations_of_hit_sr_are_taken() -> None:
    arguments = {key: value for key, value in TINY_HIT.items() if key != "type"}
    network = randomise(HiT_SRF(**arguments))
    with torch.no_grad(), listened(network) as found:
        network(torch.rand(1, 3, 16, 16))
    assert [tuple(map.shape) for map in found.maps] == [(16, 16, 16), (4, 64, 16)] * 2


def test_cosines_over_several_pictures() -> None:
    maps = [torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    cosines = Cosines()
    for pair in (maps[:2], maps[2:]):
        with listened(nn.Identity()) as found:
            pass
        found.names, found.maps = ["a", "b", "c"], [*pair, torch.rand(2, 4, 8)]
        cosines.add(found)
    first, second = torch.cat([maps[0], maps[2]]).flatten(), torch.cat([maps[1], maps[3]]).flatten()
    assert cosines.result()[0, 1] == pytest.approx(F.cosine_similarity(first, second, dim=0).item(), rel=1e-6)
    assert np.isnan(cosines.result()[0, 2])
    found.names = ["a", "b", "d"]  # a network that computes others for another picture
    cosines.add(found)
    assert np.isnan(cosines.result()).all()


def test_padding_is_no_part_of_the_features() -> None:
    image, lq = torch.rand(1, 5, 16, 8), torch.rand(1, 3, 11, 8)
    assert torch.equal(without_padding(image, lq, 8), image[:, :, :11])
    assert without_padding(image, lq, 1) is image  # padded within the network
    assert without_padding(image, torch.rand(1, 3, 16, 8), 8).shape == image.shape


def test_maps_of_a_kind_are_neighbours() -> None:
    cosines = np.array([[1, np.nan, 0.4, np.nan], [np.nan, 1, np.nan, 0.6], [0.4, np.nan, 1, 0.9], [0, 0.6, 0.9, 1]])
    names = ["layers.0.a", "layers.0.b", "layers.1.a", "layers.1.b"]
    assert neighbouring_maps(Similarity([], cosines, names, cosines)) == pytest.approx(0.5)
    assert neighbouring_maps(Similarity([], cosines, ["a", "b", "c", "d"], cosines)) is None


def test_layers_of_esc_are_its_residual_stream() -> None:
    it = subject(randomise(ESC(**TINY)), 8)
    layers = find_layers(it)
    assert [layer.name for layer in layers] == ["blocks.0.attn", "blocks.0.pconvs.0", "blocks.0.pconvs.1"]
    block: Any = it.network.blocks[0]  # type: ignore[index, union-attr]
    with torch.no_grad(), watched(it, layers) as features:
        it(torch.rand(1, 3, 8, 16))
    after, added = features.images[0], {}
    handle = block.pconvs[0].register_forward_hook(lambda _module, _inputs, output: added.update(out=output))
    with torch.no_grad():
        block.pconvs[0](block.convffns[0](after), torch.rand(4, 4, 3, 3))
    handle.remove()
    assert added["out"].shape == features.images[1].shape == (1, 16, 8, 16)
    assert not torch.equal(features.images[0], features.images[1])


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (TINY_SWIN, [f"layers.{a}.residual_group.blocks.{b}" for a in (0, 1) for b in (0, 1)]),
        (TINY_HIT, [f"layers.{a}.residual_group.blocks.{b}" for a in (0, 1) for b in (0, 1)]),
        (TINY_EDSR, ["body.0", "body.1", "body.2"]),
        (
            {"type": "RCAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 2,
             "squeeze_factor": 4, "upscale": 2},
            [f"body.{a}.residual_group.{b}" for a in (0, 1) for b in (0, 1)],
        ),
        ({"type": "MambaIR", "upscale": 2, "depths": [2], "embed_dim": 30, "d_state": 2, "mlp_ratio": 1.2,
          "upsampler": "pixelshuffledirect"}, [f"layers.0.residual_group.blocks.{b}" for b in (0, 1)]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_layers_of_others(network: dict[str, Any], names: list[str]) -> None:
    (it,) = read_subjects([option_file("a", network)], [])
    layers = find_layers(it)
    assert [layer.name for layer in layers] == names
    with torch.no_grad(), watched(it, layers) as features:
        it(torch.rand(1, 3, 16, 24))
    assert {tuple(image.shape[2:]) for image in features.images} == {(16, 24)}


def test_features_become_images() -> None:
    image = torch.rand(1, 5, 4, 6)
    sizes = {24: (4, 6)}
    for features in (image, image.permute(0, 2, 3, 1), image.flatten(2).transpose(1, 2)):
        assert torch.equal(as_image(features, sizes, "it"), image)
    with pytest.raises(UserError, match="no image"):
        as_image(torch.rand(1, 7, 3), sizes, "it")


def test_several_networks_and_pictures() -> None:
    networks = [option_file("a", TINY_ESC), option_file("b", TINY_SWIN), option_file("c", TINY_EDSR)]
    pictures = [picture("p.png", 40, 48), picture("q.png", 60, 20, seed=1)]
    assert analyze("similarity", *networks, "--images", *pictures, "--side", "16", "-o", "out") == 0
    esc, swin, edsr = summary("out/similarity")["networks"]
    numbers = arrays("out/similarity")
    assert numbers["cka_1"].shape == (4, 4)
    assert np.diagonal(numbers["cka_1"]) == pytest.approx(np.ones(4))
    assert swin["cka_of_neighbours"] == pytest.approx(np.mean([numbers["cka_1"][i, i + 1] for i in range(3)]))
    assert 0 < swin["cosine_of_neighbours"] <= 1
    assert esc["attention_maps"] == ["blocks.0.attn"]
    assert esc["cosine_of_neighbours"] is None
    assert edsr["attention_maps"] == []
    assert "cosines_2" not in numbers
    assert Path("out/similarity.png").stat().st_size > 1000


def test_layers_of_another_size_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    edsr = option_file("c", TINY_EDSR)
    common = ["similarity", edsr, "--images", picture("p.png", 40, 48), "--side", "8", "--layers", "[bcu]*[dvtf0-9]*"]
    assert analyze(*common) == 0
    (found,) = summary("results/analyze/similarity")["networks"]
    assert {"body.0", "conv_after_body"} <= set(found["layers"])
    assert found["left_out"] == [name for name in found["left_out"] if name.startswith(("up", "conv_last"))] != []
    assert f"({len(found['left_out'])} of another size are left out)" in capsys.readouterr().out


def test_patterns_and_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["similarity", option_file("b", TINY_SWIN), "--images", picture("p.png", 40, 48), "--side", "8"]
    assert analyze(*common, "--layers", "layers.?") == 0
    assert summary("results/analyze/similarity")["networks"][0]["layers"] == ["layers.0", "layers.1"]
    assert "no attention" not in capsys.readouterr().out
    assert "names 0 of the modules" in refused(capsys, *common, "--layers", "blocks.*")
    assert "no layers" in refused(capsys, "similarity", _bicubic(), "--images", "p.png").lower()


def _bicubic() -> str:
    return option_file("bicubic", {"type": "Bicubic", "upscaling_factor": 2})
