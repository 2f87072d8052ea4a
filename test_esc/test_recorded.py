"""Training writes the arguments of networks beside their weights, and tools take those that weights do not tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from running import train_here
from torch import nn

import esc_arch
from esc_arch.archs import ASID, ELAN, ESC, ESCRIB, ESCAblation, HiT_SIR, MambaIR
from esc_arch.checks.checkpoints import check_pretrained, load_exactly
from esc_arch.common.errors import UserError
from esc_arch.weights import convert, read_weights, write_weights
from esc_arch.weights.files import read_recorded
from esc_arch.weights.recorded import RECORD, entry_of, record_of

Options = dict[str, Any]
SMALL = {"dim": 16, "pdim": 4, "n_blocks": 1, "conv_blocks": 1, "num_heads": 2}
RIB = {"rank": 4, "rib_hidden_dim": 8, "rib_n_freqs": 3}
# Networks with arguments of which weights tell nothing
UNTOLD: dict[str, tuple[type[nn.Module], Options]] = {
    "window": (ESCRIB, {**SMALL, **RIB, "window_size": 16}),
    "windows and range": (
        HiT_SIR,
        {"upscale": 2, "base_win_size": [4, 4], "img_range": 2.0, "depths": [2], "embed_dim": 16, "num_heads": [2]}
        | {"hier_win_ratios": [1, 2]},
    ),
    "everything": (ELAN, {"scale": 2, "m_elan": 2, "c_elan": 12, "n_share": 0, "window_sizes": [4, 8]}),
    "range": (MambaIR, {"upscale": 2, "img_range": 255.0, "d_state": 4, "depths": [1], "embed_dim": 30}),
}
Made = tuple[nn.Module, Path]


@pytest.fixture(params=UNTOLD)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A network and a checkpoint of it."""
    kind, arguments = UNTOLD[request.param]
    network = randomise(kind(**arguments)).eval()
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, tmp_path / "w.pth")
    return network, tmp_path / "w.pth"


def same(a: nn.Module, b: nn.Module) -> bool:
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        return type(a) is type(b) and torch.allclose(a(image), b(image), atol=1e-4)


@pytest.mark.parametrize("case", UNTOLD)
def test_what_was_trained_is_what_enlarges(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    kind, arguments = UNTOLD[case]
    tiny_options["network_g"] = {"type": kind.__name__, **arguments}
    tiny_options["train"]["total_iter"] = 1
    tiny_options["val"]["val_freq"] = tiny_options["logger"]["save_checkpoint_freq"] = 1
    assert train_here(tmp_path, tiny_options) == 0
    file = tmp_path / "experiments/tiny/models/net_g_1.pth"
    content = torch.load(file, weights_only=True)
    trained = kind(**arguments).eval()
    trained.load_state_dict(content["params_ema" if "params_ema" in content else "params"])
    assert same(esc_arch.load(file), trained)


def test_every_tool_reads_it(made: Made, tmp_path: Path) -> None:
    from esc_arch.analyze.networks import _of_weights
    from esc_arch.upscale.network import load_enlarger

    network, file = made
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    expected = esc_arch.upscale_image(picture, network)
    for target in ("a.safetensors", "b.pth", "c.safetensors"):
        convert(str(file), str(tmp_path / target), half=target.startswith("c"))
        assert type(esc_arch.load(tmp_path / target)) is type(network)
    for name in ("w.pth", "a.safetensors", "b.pth"):
        assert same(load_enlarger(str(tmp_path / name)).network, network)
        assert same(_of_weights(str(tmp_path / name), "x", None).network, network)
        assert np.abs(esc_arch.upscale_image(picture, str(tmp_path / name)).astype(int) - expected).max() <= 1


def test_what_is_known_goes_before(tmp_path: Path) -> None:
    kind, arguments = UNTOLD["window"]
    network = kind(**arguments)
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, tmp_path / "w.pth")
    assert esc_arch.load(tmp_path / "w.pth").window_size == 16
    assert esc_arch.load(tmp_path / "w.pth", window=8).window_size == 8
    assert esc_arch.load(tmp_path / "w.pth", window_size=8).window_size == 8


def test_a_backend_belongs_to_a_machine(tmp_path: Path) -> None:
    network = ESC(**TINY, attn_type="Flex")
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, tmp_path / "w.pth")
    assert esc_arch.load(tmp_path / "w.pth").hub_arguments["attn_type"] == "auto"


WRONG = [
    None, 5, "", "{", "[1]", "[" * 10**5, '{"network": 3}', '{"network": "Other"}', '{"network": "ESC", "color": 1}',
    '{"network": "ESC", "dim": 64}', '{"network": "ESC", "dim": "a"}', '{"network": "ESCFP"}', {"network": "ESC"},
    json.dumps({"network": "ESC", **TINY, "n_blocks": 10**7}), json.dumps({"network": "ESC", **TINY, "dim": 10**12}),
]  # fmt: skip


@pytest.mark.parametrize("record", range(len(WRONG)))
def test_a_record_that_is_not_of_the_weights_is_left_aside(tmp_path: Path, record: int) -> None:
    network = randomise(ESC(**TINY)).eval()
    wrong = WRONG[record]
    entries = [wrong, {"arguments": wrong}, *([entry_of(wrong)[RECORD]] if isinstance(wrong, str) and wrong else [])]
    for entry in entries:
        torch.save({"params": network.state_dict(), RECORD: entry}, tmp_path / "w.pth")
        assert same(esc_arch.load(tmp_path / "w.pth"), network)


def test_the_entry_goes_through_what_checkpoints_go_through(made: Made, tmp_path: Path) -> None:
    """Every entry is a dictionary of tensors, so that loops over them need not know this one."""
    network, file = made
    content = torch.load(file, weights_only=True)
    halved = {key: {name: tensor.half() for name, tensor in entry.items()} for key, entry in content.items()}
    torch.save(halved, tmp_path / "half.pth")
    network.load_state_dict(halved["params"])
    assert same(esc_arch.load(tmp_path / "half.pth"), network)


@pytest.mark.parametrize(
    "network",
    [
        ELAN(scale=2, colors=1, m_elan=2, c_elan=12, n_share=0, window_sizes=[4, 8]),
        ASID(num_in_ch=1, num_out_ch=1, num_feat=16, upsampling=2),
        HiT_SIR(upscale=2, in_chans=1, depths=[1], embed_dim=16, num_heads=[2], hier_win_ratios=[1]),
    ],
    ids=lambda network: type(network).__name__,
)
def test_networks_of_one_channel_are_told(tmp_path: Path, network: nn.Module) -> None:
    """Pictures come as RGB, whatever the argument for their channels is called."""
    from esc_arch.export.exporting import export

    file = str(tmp_path / "w.pth")
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, file)
    with pytest.raises(UserError, match=r"w\.pth: the network is not for RGB images"):
        esc_arch.upscale_image(np.zeros((8, 8, 3), np.uint8), file)
    with pytest.raises(UserError, match=r"w\.pth: the network is for images of 1 channels, not for RGB"):
        export(file, "torchscript", str(tmp_path / "w.pt"))


def test_networks_of_others_have_none() -> None:
    from basicsr.archs.srvgg_arch import SRVGGNetCompact

    assert record_of(SRVGGNetCompact(num_feat=8, num_conv=1)) is None


@pytest.mark.parametrize(
    ("case", "changed", "told"),
    [
        ("window", {"window_size": 8}, "window_size 16 and not 8"),
        ("windows and range", {"img_range": 1.0, "base_win_size": [8, 8]}, "base_win_size [4, 4] and not [8, 8], "),
        ("windows and range", {"base_win_size": (4, 4), "img_size": 48}, ""),
        ("range", {"drop_path_rate": 0.3}, ""),
        ("range", {"img_range": 1}, "img_range 255.0 and not 1"),
    ],
)  # fmt: skip
def test_other_arguments_than_those_of_the_training_are_told(
    tmp_path: Path, case: str, changed: Options, told: str
) -> None:
    """Of a test they change the figures in silence, and of a training the start."""
    kind, arguments = UNTOLD[case]
    torch.save(
        {"params": (network := kind(**arguments)).state_dict(), **entry_of(record_of(network))}, tmp_path / "w.pth"
    )
    file, other = str(tmp_path / "w.pth"), kind(**{**arguments, **changed})
    notes = check_pretrained({"pretrain_network_g": file}, "network_g", other)
    assert [note.partition(" was trained with ")[2][: len(told)] for note in notes] == [told] * bool(told)
    if told:
        with pytest.warns(UserWarning, match="was trained with"):
            load_exactly(other, file, None, "x.yml")
    assert check_pretrained({"pretrain_network_g": file}, "network_g", network) == []


def test_another_network_with_the_same_weights_is_told(tmp_path: Path) -> None:
    network, file = ESC(**TINY), str(tmp_path / "w.pth")
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, file)
    (note,) = check_pretrained({"pretrain_network_g": file}, "network_g", ESCAblation(**TINY))
    assert note.endswith("w.pth was trained with network ESC and not ESCAblation.")


def test_another_scale_is_told_as_such(tmp_path: Path) -> None:
    network = ESC(**TINY)
    torch.save({"params": network.state_dict(), **entry_of(record_of(network))}, tmp_path / "w.pth")
    path = {"pretrain_network_g": str(tmp_path / "w.pth")}
    (note,) = check_pretrained(path, "network_g", ESC(**TINY, upscaling_factor=4))
    assert "is of another scale" in note


def test_weights_that_are_written_without_a_record_are_as_before(tmp_path: Path) -> None:
    network = randomise(ESC(**TINY)).eval()
    for name in ("w.pth", "w.safetensors"):
        write_weights(str(tmp_path / name), network.state_dict())
        assert read_recorded(str(tmp_path / name))[1] == {}
        assert same(esc_arch.load(tmp_path / name), network)
        assert read_weights(str(tmp_path / name)).keys() == network.state_dict().keys()


@pytest.mark.filterwarnings("ignore:HiT_SIR ignores")
def test_arguments_that_are_ignored_are_not_told(tmp_path: Path) -> None:
    kind, arguments = UNTOLD["windows and range"]
    record = record_of(kind(**arguments, use_checkpoint=True))
    torch.save({"params": kind(**arguments).state_dict(), **entry_of(record)}, tmp_path / "w.pth")
    path = {"pretrain_network_g": str(tmp_path / "w.pth")}
    assert check_pretrained(path, "network_g", kind(**arguments, use_checkpoint=False)) == []
