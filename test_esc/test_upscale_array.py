"""Enlarging arrays: types, channels, memory, self-ensemble, networks of every origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from torch import nn

from esc_arch.archs import ESC, ESCLTE, Bicubic, HiT_SRF
from esc_arch.common.errors import UserError
from esc_arch.common.torchvision_operators import define_torchvision_operators
from esc_arch.fast import kernels
from esc_arch.layers.lte import sample_bilinear
from esc_arch.layers.window import pad_to_multiple
from esc_arch.upscale import memory, pixels, upscale_image
from esc_arch.upscale.network import Enlarger, bundled_of_scale, load_enlarger
from esc_arch.weights import loading, write_weights


class Nearest(nn.Module):
    """Repeats pixels."""

    upscaling_factor = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def repeated(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return image.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(9, 70), (9, 70, 1), (9, 70, 2), (9, 70, 3), (9, 70, 4), (1, 1, 3)])
def test_every_type_and_number_of_channels(dtype: str, shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0).random(shape)
    image = (numbers * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)
    result = upscale_image(image, Nearest(), tile=64)
    assert result.dtype == image.dtype
    np.testing.assert_allclose(result, repeated(image), rtol=1e-6)


def test_views_and_uniform_alpha() -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 10, 4), np.uint8)
    image[..., 3] = 200
    calls: list[int] = []

    class Counting(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return super().forward(x)

    np.testing.assert_array_equal(upscale_image(image[::-1, ::2], Counting()), repeated(image[::-1, ::2]))
    assert len(calls) == 1, "a uniform alpha needs no network"


@pytest.mark.parametrize(
    "image", [np.zeros(3), np.zeros((2, 2, 5), np.uint8), np.zeros((2, 2), complex), np.zeros((0, 2), "u1")]
)
def test_other_arrays_are_refused(image: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match="image must have shape"):
        upscale_image(image, Nearest())


def test_results_are_those_of_the_evaluation() -> None:
    """Padded by reflection to whole windows, cropped, clamped, rounded."""
    net = randomise(ESC(**TINY, upscaling_factor=3)).eval()
    image = np.random.default_rng(0).integers(0, 255, (13, 10, 3), np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = net(pad_to_multiple(x, 8))[0, :, :39, :30].clamp(0, 1).permute(1, 2, 0).mul(255).round()
    np.testing.assert_allclose(upscale_image(image, net), expected.numpy(), atol=1)
    assert np.mean(upscale_image(image, net) == expected.numpy()) > 0.99


def test_self_ensemble_is_symmetric() -> None:
    net = randomise(ESC(**TINY))
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)

    def enlarge(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return upscale_image(pixels, net, self_ensemble=True)

    expected = enlarge(image)
    for turn in (np.flipud, np.fliplr, np.rot90):
        np.testing.assert_allclose(enlarge(turn(image)), turn(expected), atol=1e-5)
    assert np.abs(expected - upscale_image(image, net)).max() > 1e-3


def test_smaller_tiles_where_memory_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Greedy(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.shape[-1])
            if x.shape[-1] > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    image = np.random.default_rng(0).integers(0, 255, (20, 300), np.uint8)
    net = Greedy()
    net.most = 150
    np.testing.assert_array_equal(upscale_image(image, net, tile=512), repeated(image))
    assert sizes[:3] == [300, 256, 128]
    net.most = 10
    with pytest.raises(UserError, match="not enough memory for tiles of 64"):
        upscale_image(image, net)


def test_other_failures_are_not_taken_for_lack_of_memory() -> None:
    class Broken(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        upscale_image(np.zeros((4, 4), np.uint8), Broken())


def test_tile_fits_into_memory_and_on_the_grid() -> None:
    enlarger = load_enlarger(ESC(dim=48, pdim=4, n_blocks=1, conv_blocks=1, window_size=48, num_heads=2))
    tiles = [memory.choose_tile(enlarger, 4000, free) for free in (2**20, 2**30, 2**32, 2**40)]
    assert tiles == sorted(tiles)
    assert tiles[0] == 96
    assert tiles[-1] == 480
    assert all(tile % 48 == 0 for tile in tiles)
    assert memory.overlap_of(enlarger) == 48
    assert memory.fit_tile(enlarger, 1) == 96


def test_limits_of_container_and_process_are_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.free_memory() > 2**20
    limit, used = tmp_path / "limit", tmp_path / "used"
    used.write_text("2000000")
    monkeypatch.setattr(memory, "CGROUPS", ((str(limit), str(used)),))
    limit.write_text("5000000\n")
    assert memory.free_memory() == 3_000_000
    limit.write_text("max\n")
    assert memory.free_memory() > 5_000_000


def test_numbers_that_overflow_are_refused() -> None:
    net = ESC(**TINY).half()
    nn.init.constant_(net.last.weight, 60000)
    with pytest.raises(UserError, match="take fp32 or bf16"):
        upscale_image(np.full((8, 8, 3), 255, np.uint8), net)


def test_networks_by_name_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 255, (13, 10, 3), np.uint8)
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    with pytest.raises(UserError, match="no weights come with this package as it is installed"):
        bundled_of_scale(3)
    net = randomise(ESC(**TINY, upscaling_factor=3))
    write_weights(str(tmp_path / "ESC_tiny_x3.safetensors"), net.state_dict())
    large = ESC(**{**TINY, "n_blocks": 2}, upscaling_factor=3)
    write_weights(str(tmp_path / "ESC_large_x3.safetensors"), large.state_dict())
    assert bundled_of_scale(3) == "ESC_large_x3"
    np.testing.assert_array_equal(upscale_image(image, "ESC_tiny_x3"), upscale_image(image, net))


@pytest.mark.parametrize("scale", [1, 1.7, 3])
def test_any_scale_in_tiles_and_by_symmetries(scale: float) -> None:
    """A network for any scale whose colours depend on the place alone gives them in tiles and mirrored too."""

    class Places(ESCLTE):
        def query(self, x: torch.Tensor, coord: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
            assert torch.allclose(cell * cell.new_tensor(x.shape[-2:]), cell.new_tensor(2 / scale), rtol=0.02)
            return sample_bilinear(x, coord)

    net = Places(**TINY)
    ramp = np.linspace(0, 1, 150 * 130, dtype=np.float32).reshape(150, 130)
    image = np.stack([ramp, ramp.reshape(130, 150).T, ramp[::-1]], axis=2)
    whole = upscale_image(image, net, scale=scale, tile=512)
    assert whole.shape == (round(150 * scale), round(130 * scale), 3)
    if scale == 1:
        np.testing.assert_allclose(whole, image, atol=1e-5)
    np.testing.assert_allclose(upscale_image(image, net, scale=scale, tile=64), whole, atol=1e-5)
    np.testing.assert_allclose(upscale_image(image, net, scale=scale, tile=512, self_ensemble=True), whole, atol=1e-5)
    with pytest.raises(UserError, match="must be at least 1"):
        upscale_image(image, net, scale=0.9)


def test_hit_sr_and_networks_without_parameters() -> None:
    net = HiT_SRF(upscale=2, embed_dim=20, depths=[1], num_heads=[2])
    enlarger = load_enlarger(net)
    assert (enlarger.scale, enlarger.window, enlarger.grid) == (2, 1, 64)
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    assert upscale_image(image, net).shape == (18, 14, 3)
    assert upscale_image(image, Bicubic(3)).shape == (27, 21, 3)
    with pytest.raises(UserError, match="does not say its scale"):
        upscale_image(image, nn.Identity())


def test_dtypes_of_a_network_that_is_given() -> None:
    """Its weights stay as they are."""
    net = randomise(ESC(**TINY)).eval()
    image = np.random.default_rng(0).random((24, 20, 3), np.float32)
    exact, rounded = (upscale_image(image, net, dtype=dtype) for dtype in ("auto", "bf16"))
    np.testing.assert_array_equal(upscale_image(image, net, dtype="fp32"), exact)
    assert np.abs(rounded - exact).max() <= 0.05
    assert np.abs(rounded - exact).max() > 0 or not kernels.has_bf16()
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    for dtype, complaint in (("fp16", "convert it by network.to"), ("fp8", "one of auto, fp32, bf16, fp16")):
        with pytest.raises(ValueError, match=complaint):
            upscale_image(image, net, dtype=dtype)


def test_networks_of_spandrel(tmp_path: Path) -> None:
    define_torchvision_operators()
    spandrel = pytest.importorskip("spandrel")
    from spandrel.architectures.SwinIR import SwinIR

    net = SwinIR(embed_dim=12, depths=[1], num_heads=[2], upscale=2, upsampler="pixelshuffledirect", window_size=8)
    torch.save(net.state_dict(), tmp_path / "swinir.pth")
    image = np.random.default_rng(0).random((13, 10, 3), np.float32)
    result = upscale_image(image, tmp_path / "swinir.pth")
    model = spandrel.ModelLoader().load_from_file(tmp_path / "swinir.pth")
    expected = model(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(result, expected.numpy(), atol=1e-5)
    with pytest.raises(UserError, match="SwinIR does not work in it; take fp32"):
        load_enlarger(tmp_path / "swinir.pth", dtype="fp16")
    torch.save({"a": torch.zeros(1)}, tmp_path / "unknown.pth")
    with pytest.raises(UserError, match=r"unknown\.pth: .* Neither does spandrel know the network"):
        load_enlarger(tmp_path / "unknown.pth")


def test_missing_spandrel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    torch.save({"a": torch.zeros(1)}, tmp_path / "unknown.pth")
    with pytest.raises(UserError, match=r"unknown\.pth: .*esc_arch\[peers\]"):
        load_enlarger(tmp_path / "unknown.pth")


def test_planes_are_the_only_thing_that_is_cut() -> None:
    assert pixels._planes(np.zeros((2, 2, 4), np.uint8)) == [slice(0, 3)]
    assert isinstance(load_enlarger(Nearest()), Enlarger)
