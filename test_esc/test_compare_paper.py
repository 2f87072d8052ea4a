"""The comparison beside the paper: its ratios, its claims, and tables for several scales and dtypes."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
import yaml
from conftest import option_file

from esc_arch.compare import paper, table
from esc_arch.compare.options import Row, in_every_dtype
from esc_arch.compare.published import NETWORKS, REFERENCE, named

Line = dict[str, Any]


def measured(name: str, scale: int, latency: float, memory: float, **more: Any) -> Line:
    """A line of a network of the paper."""
    network = named(name)
    return {
        "label": f"{name} x{scale}",
        "file": "a.yml",
        "type": network.type,
        "scale": scale,
        "dtype": "fp32",
        "parameters": network.parameters[scale],
        "sets": [],
        "quality": {},
        "problems": {},
        "remark": "",
        "latency_ms": {"median": latency, "q1": latency, "q3": latency, "rounds": []},
        "memory_mib": memory,
        **more,
    }


def summary_of(lines: list[Line]) -> dict[str, Any]:
    paper.relate(lines)
    return {
        "environment": {"cpu": "a CPU", "gpu": None},
        "conventions": ["MACs: so."],
        "networks": lines,
        "claims": paper.check_claims(lines),
        "paper": paper.circumstances("a CPU", {2: (360, 640), 4: (128, 128)}, lines),
    }


@pytest.fixture
def lines() -> list[Line]:
    return [
        measured("ESC", 4, 10.0, 100.0, attn_type="auto"),
        measured("HiT-SRF", 4, 36.6, 610.0),
        measured("ESC", 2, 20.0, 200.0, attn_type="auto"),
        measured("ESC", 2, 320.0, 2439.0, attn_type="Naive"),
    ]


TABLE = (
    "RCAN RDN SwinIR-light ELAN-light OmniSR SRFormer-light ATD-light HiT-SRF ASID-D8 MambaIR-light "
    "MambaIRv2-light ESC-FP ESC-light ESC"
)
SHIFTS = 24  # constants of two shifts of colour, which the published count of RCAN has


def test_published_figures(official_counts: dict[str, Any], family_counts: dict[str, Any]) -> None:
    counts = {**official_counts["params"], **family_counts["params"]}
    counts["ESC-FB-R48"] = counts["ESC-FlashBias-R48"]
    for network in NETWORKS:
        if network.name == "ESC-LTE":
            assert set(network.parameters.values()) == {counts[network.name]}
            continue
        extra = SHIFTS if network.name == "RCAN" else 0
        assert network.parameters == {s: counts[network.name][f"x{s}"] - extra for s in (2, 3, 4)}, network.name
    assert [network.name for network in NETWORKS if network.in_table] == TABLE.split()
    assert REFERENCE is NETWORKS[-1] is named("ESC")
    hit, esc, claim = named("HiT-SRF"), named("ESC"), paper.CLAIMS[0]
    assert round(hit.latency_ms[4] / esc.latency_ms[4], 1) == claim.latency
    assert round(hit.memory_mb[4] / esc.memory_mb[4], 1) == claim.memory


def test_claims_pass_or_fail(lines: list[Line]) -> None:
    verdicts = {(result["claimed"], result["verdict"]) for result in paper.check_claims(lines)}
    assert verdicts == {(3.7, "PASS"), (6.2, "FAIL"), (16.0, "PASS"), (12.2, "PASS")}, "rounded as the paper rounds"
    assert paper.check_claims(lines)[0]["measured"] == pytest.approx(3.66)


def test_claims_that_cannot_be_tried(lines: list[Line]) -> None:
    del lines[1]["latency_ms"]
    lines[3]["dtype"] = "fp16"
    results = paper.check_claims(lines)
    assert {result["dtype"] for result in results} == {"fp32", "fp16"}
    assert {(result["measured"], result["verdict"]) for result in results} == {(None, "not measured")}
    lines[1]["parameters"] += 1
    assert paper.published(lines[1]) is None, "another configuration than the published one"


def test_relation_to_esc(lines: list[Line]) -> None:
    paper.relate(lines)
    assert [index for index, line in enumerate(lines) if "relative_to_esc" in line] == [1]
    assert lines[1]["relative_to_esc"] == {
        "latency": pytest.approx(3.66),
        "memory": pytest.approx(6.1),
        "paper_latency": pytest.approx(82.1 / 21.9),
        "paper_memory": pytest.approx(1331 / 215),
    }


def test_all_formats_tell_the_verdict(lines: list[Line]) -> None:
    summary = summary_of(lines)
    markdown, terminal = table.markdown(summary), table.terminal(summary)
    claim = "ESC against HiT-SRF at x4"
    assert f"| {claim} | fp32 | latency | 3.7x less | 3.7x less | PASS |" in markdown
    assert f"| {claim} | fp32 | memory | 6.2x less | 6.1x less | FAIL |" in markdown
    assert "| HiT-SRF x4 | x4 | fp32 | 3.66 | 3.75 | 6.10 | 6.19 |" in markdown
    assert sum(text.endswith("PASS") for text in terminal.splitlines()) == 3
    for text in (markdown, terminal):
        assert "measured here: another device (a CPU) and another input (128 x 128 at x4)." in text
    rows = list(csv.DictReader(io.StringIO(table.claims_separated(summary["claims"]))))
    assert [row["verdict"] for row in rows] == ["PASS", "FAIL", "PASS", "PASS"]
    row = list(csv.DictReader(io.StringIO(table.comma_separated(summary))))[1]
    assert float(row["paper_latency_over_esc"]) == pytest.approx(82.1 / 21.9)


def test_a_table_for_every_scale_and_dtype(lines: list[Line]) -> None:
    lines[3]["dtype"] = "fp16"
    lost = {**measured("ESC", 2, 1.0, 1.0), "scale": None, "label": "lost", "problems": {"": "no such file."}}
    parted = [(title, [line["label"] for line in part]) for title, part in table.groups([*lines, lost])]
    assert parted == [
        ("x2, fp32", ["ESC x2"]),
        ("x2, fp16", ["ESC x2"]),
        ("x4, fp32", ["ESC x4", "HiT-SRF x4", "lost"]),
    ]
    assert [title for title, _ in table.groups([lines[0], lost])] == [""]
    assert "### x2, fp16\n\n| network |" in table.markdown(summary_of(lines))


def row(stem: str, **changes: Any) -> Row:
    content = yaml.safe_load(option_file(stem).read_text())
    content["network_g"].update(changes)
    return Row(stem, f"{stem}.yml", content, content["scale"])


def test_row_with_materialised_attention() -> None:
    rows = [row("test_ESC_light_x2"), row("test_ESC_x2"), row("test_ESC_x4"), Row("lost", "lost.yml")]
    (added,) = paper.materialised_rows(rows)
    assert added.label == "test_ESC_x2 (Naive)"
    assert added.network == {**rows[1].network, "attn_type": "Naive"}
    assert rows[1].network["attn_type"] == "auto"
    assert paper.materialised_rows([row("test_ESC_x2", window_size=16), row("test_ESC_x2", dim=-1)]) == []


def test_rows_in_every_dtype() -> None:
    lost = Row("lost", "lost.yml", problems={"": "no such file."})
    rows = in_every_dtype([row("test_ESC_x2"), lost], ["fp32", "fp16", "fp32"])
    assert [(r.title, r.dtype) for r in rows] == [
        ("test_ESC_x2", "fp32"),
        ("lost", "fp32"),
        ("test_ESC_x2 fp16", "fp16"),
    ]
    rows[0].problems["speed"] = "out of memory."
    assert rows[2].problems == {}, "what fails in one dtype may work in another"
