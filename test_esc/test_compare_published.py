"""PSNR and SSIM beside those that were published: which figures, differences, what is flagged, and sources."""

from __future__ import annotations

from typing import Any

import pytest
from comparing import QUICK, compare, networks, write

from esc_arch.compare import published, table
from esc_arch.compare.published import NETWORKS, Published, Scores, named, set_beside

Line = dict[str, Any]
SETS = {"set5", "set14", "b100", "urban100", "manga109"}


def scored(name: str, scale: int, quality: dict[str, Any], **more: Any) -> Line:
    network = named(name)
    return {
        "label": f"{name} x{scale}",
        "file": f"test_{name}_x{scale}.yml",
        "type": network.type,
        "scale": scale,
        "dtype": "fp32",
        "parameters": network.parameters[scale],
        "sets": list(quality),
        "quality": {data: {**figures, "images": 5} for data, figures in quality.items()},
        "problems": {},
        "remark": "",
        **more,
    }


def beside(*lines: Line) -> list[Line]:
    set_beside([*lines])
    return [comparison for line in lines for comparison in line.get("published", ())]


def test_data_are_plausible() -> None:
    for network in NETWORKS:
        assert network.latency_ms.keys() == network.memory_mb.keys()
        assert network.latency_ms.keys() <= network.parameters.keys()
        for scores in network.quality:
            assert scores.source
            for scale, sets in scores.figures.items():
                assert scale in network.parameters
                assert sets.keys() <= SETS
                for psnr, ssim in sets.values():
                    assert psnr is None or 22 < psnr < 41
                    assert ssim is None or 0.7 < ssim < 0.99
            for scale, name, metric in scores.misprints:
                assert scores.figures[scale][name][("psnr", "ssim").index(metric)] is not None


@pytest.mark.parametrize("network", [network for network in NETWORKS if network.quality], ids=lambda n: n.name)
def test_larger_scales_are_worse(network: Published) -> None:
    """Which figures in the wrong row or column would break."""
    for scores in network.quality:
        for name in SETS:
            psnrs = [sets[name][0] for _, sets in sorted(scores.figures.items()) if name in sets]
            given = [psnr for psnr in psnrs if psnr is not None]
            assert given == sorted(given, reverse=True)


def test_differences_and_flags() -> None:
    near, far = beside(
        scored("ESC", 4, {"Set5": {"psnr": 32.70, "ssim": 0.9013}}),
        scored("ESC", 2, {"Set5": {"psnr": 38.3289, "ssim": 0.9618}}),
    )
    assert near["psnr"] == {"published": 32.68, "measured": 32.70, "difference": pytest.approx(0.02), "misprint": False}
    assert near["ssim"]["difference"] == pytest.approx(0.0002)
    assert not near["differs"], "0.02 dB is allowed"
    assert far["psnr"]["difference"] == pytest.approx(-0.0211)
    assert far["differs"]


def test_likely_misprints_are_marked() -> None:
    x4, x3, other = beside(
        scored("ESC-FP", 4, {"Set5": {"psnr": 32.56, "ssim": 0.8997}}),
        scored("ESC-FP", 3, {"Manga109": {"psnr": 34.3, "ssim": 0.9501}}),
        scored("ESC-FP", 4, {"Set14": {"psnr": 28.87, "ssim": 0.7880}}),
    )
    assert x4["ssim"]["misprint"]
    assert x4["ssim"]["published"] == 0.8897
    assert not x4["psnr"]["misprint"]
    assert x3["ssim"]["misprint"]
    assert "psnr" not in x3, "nothing is known of it"
    assert "ssim" not in other
    text = table.markdown(summary([scored("ESC-FP", 4, {"Set5": {"psnr": 32.53, "ssim": 0.8997}})]))
    note = "PSNR differs by more than 0.02 dB; published SSIM 0.8897 is likely a misprint"
    assert f"| ESC-FP x4 | x4 | fp32 | Set5 | 32.530 | 32.56 | -0.030 | 0.8997 | 0.8897 | +0.0100 | {note} |" in text


def summary(lines: list[Line]) -> dict[str, Any]:
    set_beside(lines)
    return {"environment": {}, "conventions": [], "networks": lines, "claims": []}


@pytest.mark.parametrize(
    "more", [{"weights": "down/ESC_DFLIP_X2.pth"}, {"file": "options/train_ESC_DFLIP_x2.yml"}, {"file": "my_dflip.yml"}]
)
def test_training_data_are_told_by_names(more: Line) -> None:
    usual, other = beside(
        scored("ESC", 2, {"Set14": {"psnr": 34.11}}, weights="dflip_folder/net_g.pth"),
        scored("ESC", 2, {"Set14": {"psnr": 34.42}}, **more),
    )
    assert usual["psnr"]["published"] == 34.11
    assert other["psnr"]["published"] == 34.42
    assert "DFLIP" in other["source"]
    assert not usual["differs"] | other["differs"]


def test_what_was_not_published_stays_out() -> None:
    quality = {"Set5": {"psnr": 30.0}, "mine": {"psnr": 30.0}, "BSD100": {"psnr": 32.4}}
    lines = [
        scored("ASID-D8", 2, {"Manga109": {"psnr": 39.0, "ssim": 0.97}}),  # of another network alone
        scored("ATD-light", 2, quality),
        scored("ESC", 2, quality, parameters=1),
        {**scored("ESC", 2, quality), "parameters": None},
        {**scored("ESC", 2, quality), "type": None, "parameters": None, "scale": None},
    ]
    assert beside(*lines) == []
    assert [comparison["set"] for comparison in beside(scored("ESC", 2, quality))] == ["Set5", "BSD100"]
    assert "Published PSNR" not in table.terminal(summary(lines))


def test_sources_are_named() -> None:
    lines = [scored(name, 2, {"Set5": {"psnr": 38.2, "ssim": 0.96}}) for name in ("RDN", "CATANet", "ESC")]
    text = table.terminal(summary(lines))
    assert 'RDN x2, ESC x2: Lee, Yun, Ro, "Emulating Self-attention with Convolution' in text
    assert 'CATANet x2: Liu, Liu, Tang, Wu, "CATANet" (CVPR 2025), as later papers quote it' in text


def test_command_sets_them_beside(options: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert compare(write("a.yml", options), *QUICK, "--scores-only") == 0
    measured = networks()["a"]
    mine = Published(
        "mine",
        "ESC",
        {2: measured["parameters"]},
        quality=(Scores("a paper", {2: {"tiny": (measured["quality"]["tiny"]["psnr"] + 0.5, None)}}),),
    )
    monkeypatch.setattr(published, "NETWORKS", (mine,))
    assert compare("a.yml", *QUICK, "--scores-only") == 0
    (comparison,) = networks()["a"]["published"]
    assert comparison["psnr"]["difference"] == pytest.approx(-0.5)
    assert comparison["differs"]
    out = capsys.readouterr().out
    assert "Beside published figures" in out
    assert "PSNR differs by more than 0.02 dB" in out
    assert "a: a paper." in out
