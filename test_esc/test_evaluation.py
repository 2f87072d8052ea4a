"""How models enlarge: in tiles (HAT), in parts (HiT-SR), padded to windows; and names that are misspelt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import randomise
from test_check import parsed

from esc_arch.checks.names import misspelt
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.models.evaluation import enlarge_in_parts

Options = dict[str, Any]


@pytest.fixture
def enlarged(options: Options) -> Any:
    """Enlarge an image by a model with changed options; return the result and the sizes that the network saw."""
    from basicsr.models import build_model

    def call(lq: torch.Tensor, **changed: Any) -> tuple[torch.Tensor, list[tuple[int, ...]]]:
        torch.manual_seed(0)
        opt = {"model_type": "HATModel", **changed, "is_train": False, "dist": False, "path": {}}
        model = build_model({**options, **opt})
        randomise(model.net_g)
        sizes: list[tuple[int, ...]] = []
        model.net_g.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[2:])))
        model.feed_data({"lq": lq})
        model.test()
        assert torch.equal(model.lq, lq)
        return model.output, sizes

    return call


def test_tiles_cover_the_padded_image(enlarged: Any) -> None:
    """Windows of 8, tiles of 16 with 8 around: the sizes are HAT's, and one large tile is the whole."""
    lq = torch.rand(1, 3, 30, 45)
    whole, sizes = enlarged(lq)
    assert sizes == [(32, 48)]
    tiled, sizes = enlarged(lq, tile={"tile_size": 16, "tile_pad": 8})
    assert sizes == [(24, 24), (24, 32), (24, 24)] * 2
    assert tiled.shape == whole.shape == (1, 3, 60, 90)
    one, sizes = enlarged(lq, tile={"tile_size": 48, "tile_pad": 8})
    assert sizes == [(32, 48)]
    assert torch.equal(one, whole)


@pytest.mark.parametrize("network", ["ESC", "SwinIR"])
def test_tiles_of_any_size_reach_the_network_as_whole_windows(enlarged: Any, options: Options, network: str) -> None:
    """SwinIR takes nothing else; where the margin is as large as the image, each tile is one of the whole image."""
    lq = torch.rand(1, 3, 30, 45)
    if network == "SwinIR":
        sizes = {"img_size": 16, "window_size": 8, "depths": [2], "num_heads": [2], "embed_dim": 12, "mlp_ratio": 1}
        options["network_g"] = {"type": "SwinIR", **sizes, "upscale": 2, "upsampler": "pixelshuffledirect"}
    tiled, sizes = enlarged(lq, tile={"tile_size": 11, "tile_pad": 3})
    assert {side % 8 for size in sizes for side in size} == {0}
    assert tiled.shape == (1, 3, 60, 90)
    whole, _ = enlarged(lq)
    assert torch.equal(enlarged(lq, tile={"tile_size": 13, "tile_pad": 48})[0], whole)


def test_parts_of_hit_sr(enlarged: Any, options: Options) -> None:
    """An image of more than 200 pixels is cut evenly, mirrored to a multiple, with 16 pixels around each part."""
    hit = {"upscale": 2, "depths": [1], "num_heads": [2], "embed_dim": 16, "base_win_size": [4, 4]}
    options["network_g"] = {"type": "HiT_SRF", **hit}
    lq = torch.rand(1, 3, 12, 201)
    change = {"model_type": "HITModel", "val": {**options["val"], "use_chop": True}}
    out, sizes = enlarged(lq, **change)
    assert sizes == [(12, 101 + 16), (12, 101 + 16)]
    assert out.shape == (1, 3, 24, 402)
    whole, sizes = enlarged(lq, model_type="HITModel")
    assert sizes == [(12, 201)]
    assert (out - whole)[..., :200].abs().mean() < (whole - whole.mean()).abs().mean()


@pytest.mark.parametrize(
    ("height", "width", "part", "margin"), [(7, 9, (3, 4), 2), (5, 5, (5, 5), 3), (6, 6, (2, 9), 0)]
)
def test_parts_give_the_whole_where_the_margin_suffices(height: int, width: int, part: Any, margin: int) -> None:
    def nearest(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(image, scale_factor=3, mode="nearest")

    image = torch.rand(2, 3, height, width)
    assert torch.equal(enlarge_in_parts(nearest, image, part, margin, 3), nearest(image))


@pytest.mark.parametrize(
    ("tile", "sentence"),
    [
        ({"tile_size": 0, "tile_pad": 8}, "tile:tile_size is 0"),
        ({"tile_size": 16}, "the option tile:tile_pad is missing"),
        ({"tile_size": 16, "tile_pad": "much"}, "tile:tile_pad is 'much'"),
    ],
)
def test_wrong_tiles_are_named(options: Options, tile: Options, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_options(parsed({**options, "model_type": "HATModel", "tile": tile}, is_train=False))


def test_what_a_model_does_not_read_is_told(options: Options) -> None:
    tile = {"tile_size": 16, "tile_pad": 8}
    (told,) = check_options(parsed({**options, "model_type": "SRModel", "tile": tile}, is_train=False))
    assert "tile:tile_size (not read by SRModel)" in told
    with pytest.raises(UserError, match="tile is no option of ESCLTEModel"):
        check_options(parsed({**options, "model_type": "ESCLTEModel", "tile": tile}, is_train=False))


MODELS = ("ESCModel", "ESRModel", "HATModel", "HITModel", "SRModel", "SwinIRModel", "RealESRGANModel")
NETWORKS = ("ESC", "ESCReal", "ESCRealM", "EDSR", "EDVR", "HAT", "DAT", "HiT_SIR", "HiT_SRF", "RGT", "RCAN", "SwinIR")


@pytest.mark.parametrize(
    ("written", "known", "expected"),
    [
        ("escmodel", MODELS, "ESCModel"),
        ("HAT_Model", MODELS, "HATModel"),
        ("HATModl", MODELS, "HATModel"),
        ("RealESRGANMdoel", MODELS, "RealESRGANModel"),
        ("DATModel", MODELS, None),
        ("RGTModel", MODELS, None),
        ("VideoBaseModel", MODELS, None),
        ("SwinFIRModel", MODELS, None),
        ("ESCC", NETWORKS, "ESC"),
        ("ESC-Real", NETWORKS, "ESCReal"),
        ("Swinir", NETWORKS, "SwinIR"),
        ("HiT_SNG", NETWORKS, None),
        ("HiT_SRT", NETWORKS, None),
        ("SwinFIR", NETWORKS, None),
        ("CAT", NETWORKS, None),
        ("EDR", NETWORKS, None),
        ("ESCRealM2", NETWORKS, None),
    ],
)
def test_another_class_is_never_proposed(written: str, known: tuple[str, ...], expected: str | None) -> None:
    assert misspelt(written, known) == expected


def test_choices_have_no_internal_names(options: Options) -> None:
    options["datasets"]["test_1"]["type"] = "FolderDataset"
    with pytest.raises(UserError, match="datasets:test_1:type: 'FolderDataset' is unknown; choose one of") as caught:
        check_options(parsed(options, is_train=False))
    assert "RealESRGANDataset," in str(caught.value)
    assert "_basicsr" not in str(caught.value)
