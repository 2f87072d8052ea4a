"""Sets what was measured beside what the paper published.

Figures and claims are quoted from "Emulating Self-attention with Convolution for Efficient Image Super-Resolution"
(ICCV 2025), measured there on one NVIDIA RTX A6000 with an output of 1280 x 720. Ratios between networks carry over to
other machines better than milliseconds do, but not exactly: a claim that fails here was not refuted on its own GPU.
"""

from __future__ import annotations

from typing import Any

from esc_arch.checks.options import build_checked
from esc_arch.common.claims import CLAIMS, OUTPUT, verdict
from esc_arch.common.errors import UserError
from esc_arch.compare.options import Row
from esc_arch.compare.published import REFERENCE, named, published

Line = dict[str, Any]
HARDWARE = "NVIDIA RTX A6000"
MATERIALISED = "Naive"
LATER = "ESC-RIB"


def materialised_rows(rows: list[Row]) -> list[Row]:
    """Make the rows that claims need beyond those given: published networks with materialised attention."""
    added = []
    for claim in CLAIMS:
        found = (row for row in rows if claim.worse is None and row.scale == claim.scale and _is(row, claim.better))
        row = next(found, None)
        if row is not None:
            content = {**row.content, "network_g": {**row.network, "attn_type": MATERIALISED}}
            remark = f"attn_type: {MATERIALISED}, for a claim of the paper"
            added.append(Row(f"{row.label} ({MATERIALISED})", row.file, content, row.scale, remark=remark))
    return added


def _is(row: Row, name: str) -> bool:
    if not row.content or row.network.get("attn_type") == MATERIALISED:
        return False
    network = named(name)
    if row.network.get("type") != network.type:
        return False
    try:
        built = build_checked(row.network, "network_g")
    except UserError:
        return False  # its own row says what is wrong with it
    return sum(parameter.numel() for parameter in built.parameters()) == network.parameters.get(row.scale)


def check_claims(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare measured ratios with those claimed.

    Args:
        lines: the networks, see `summarise`.

    Returns:
        for every claim, dtype and quantity (`latency`, `memory`): the claim's text, `claimed` and `measured` ratio and
        the `verdict`. A ratio passes that, rounded as the paper rounds, reaches the one claimed.
    """
    results = []
    for dtype in dict.fromkeys(line["dtype"] for line in lines if line["scale"]):
        for claim in CLAIMS:
            there = [line for line in lines if (line["dtype"], line["scale"]) == (dtype, claim.scale)]
            better = _find(there, claim.better, materialised=False)
            worse = _find(there, claim.worse or claim.better, materialised=claim.worse is None)
            for quantity, claimed in (("latency", claim.latency), ("memory", claim.memory)):
                measured = _ratio(worse, better, quantity)
                result = {"claim": claim.text, "dtype": dtype, "quantity": quantity, "claimed": claimed}
                results.append({**result, "measured": measured, "verdict": verdict(claimed, measured)})
    return results


def relate(lines: list[Line]) -> None:
    """Add to every network its `relative_to_esc`: latency and memory over ESC's, measured and, where known, published.

    Args:
        lines: the networks, see `summarise`; they are changed. ESC itself gets nothing, nor does anything where ESC of
            the same scale and dtype was not measured.
    """
    for line in lines:
        network, scale = published(line), line["scale"]
        if network is REFERENCE or line.get("attn_type") == MATERIALISED:
            continue
        there = [other for other in lines if (other["dtype"], other["scale"]) == (line["dtype"], scale)]
        esc = _find(there, REFERENCE.name, materialised=False)
        measured = {quantity: _ratio(line, esc, quantity) for quantity in ("latency", "memory")}
        if any(measured.values()):
            latency = network.latency_ms.get(scale) if network else None
            memory = network.memory_mb.get(scale) if network else None
            line["relative_to_esc"] = {
                **measured,
                "paper_latency": latency and latency / REFERENCE.latency_ms[scale],
                "paper_memory": memory and memory / REFERENCE.memory_mb[scale],
            }


def circumstances(device: str, sizes: dict[int, tuple[int, int]], lines: list[Line]) -> str:
    """Say what the paper measured on, how far the measurement here is from that, and what it does not say."""
    other = [f"{height} x {width} at x{scale}" for scale, (height, width) in sorted(sizes.items())
             if (height, width) != (-(-OUTPUT[0] // scale), -(-OUTPUT[1] // scale))]  # fmt: skip
    here = "the same GPU" if "A6000" in device else f"another device ({device})"
    size = f" and another input ({', '.join(other)})" if other else ""
    there = {network.name: network for network in map(published, lines) if network}
    text = f"The paper's ratios are of an {HARDWARE} and an output of 1280 x 720; measured here: {here}{size}."
    if LATER in there:
        text += f" Those of {LATER} were published later by the authors, beside the same figures of ESC."
    if without := [name for name, network in there.items() if network.in_table and not network.latency_ms]:
        text += f" Not at hand: those of {', '.join(without)}."
    return text


def _find(lines: list[Line], name: str, materialised: bool) -> Line | None:
    for line in lines:
        network = published(line)
        if network and network.name == name and (line.get("attn_type") == MATERIALISED) == materialised:
            return line
    return None


def _ratio(above: Line | None, below: Line | None, quantity: str) -> float | None:
    first, second = _figure(above, quantity), _figure(below, quantity)
    return first / second if first and second else None


def _figure(line: Line | None, quantity: str) -> float | None:
    if line is None or "latency_ms" not in line:
        return None
    return line["latency_ms"]["median"] if quantity == "latency" else line["memory_mib"]
