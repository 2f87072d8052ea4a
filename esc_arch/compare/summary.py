"""Draws the results of the tasks together: one line of figures for every network."""

from __future__ import annotations

from typing import Any

import numpy as np

from esc_arch.common.peak_memory import MEANING
from esc_arch.compare.flops import CONVENTION
from esc_arch.compare.options import PYTORCH
from esc_arch.compare.paper import check_claims, circumstances, relate
from esc_arch.compare.published import set_beside
from esc_arch.compare.record import Record
from esc_arch.compare.runner import Plan
from esc_arch.compare.runtimes import convention, verdict

Line = dict[str, Any]
LOWER_IS_BETTER = ("niqe", "lpips", "dists", "fid", "sfid", "fid_dinov2")


def summarise(plan: Plan, record: Record, claims: bool = False) -> dict[str, Any]:
    """Collect all results.

    Args:
        plan: what was measured.
        record: the results.
        claims: compare with the paper's claims.

    Returns:
        what the JSON file holds: `environment`, `protocol`, `conventions`, `networks` and, where the paper's figures
        or claims come in, `paper` and `claims` (see `check_claims`). A network has label, file, type, scale, dtype and
        runtime; parameters, macs, latency_ms (median, q1, q3, rounds), memory_mib and input where measured; `quality`
        by data set, what was `published` (see `set_beside`) and `relative_to_esc` (see `relate`); `problems` by task
        and a `remark`.
    """
    protocol = {**vars(plan.protocol), "rounds": plan.rounds}
    protocol["dtypes"] = list(dict.fromkeys(row.dtype for row in plan.rows))
    protocol["input"] = {f"x{scale}": list(size) for scale, size in sorted(plan.sizes.items())}
    lines = [_line(plan, record, row) for row in plan.rows]
    in_pytorch = [line for line in lines if line["runtime"] == PYTORCH]
    relate(in_pytorch)
    set_beside(in_pytorch)
    summary = {
        "environment": plan.environment,
        "protocol": protocol,
        "conventions": conventions(plan),
        "networks": lines,
        "claims": check_claims(in_pytorch) if claims else [],
    }
    if claims or any("relative_to_esc" in line for line in lines):
        device = plan.environment["gpu"] or plan.environment["cpu"]
        summary["paper"] = circumstances(device, plan.sizes, lines)
    return summary


def conventions(plan: Plan) -> list[str]:
    """Say what the figures mean."""
    protocol = plan.protocol
    sizes = ", ".join(
        f"{height} x {width} at x{scale} (output {scale * height} x {scale * width})"
        for scale, (height, width) in sorted(plan.sizes.items())
    )
    names = {"fp32": "fp32 with PyTorch's defaults"}
    precision = "; ".join(dict.fromkeys(names.get(row.dtype, f"autocast to {row.dtype}") for row in plan.rows))
    number = plan.environment["threads"]
    threads = "" if protocol.device == "cuda" else f", {number} thread{'s' if number > 1 else ''}"
    clock = ", as the time for which it had the processor" if protocol.cpu_time else ""
    device = plan.environment["gpu"] or plan.environment["cpu"]
    return [
        f"Input: one image of random values, height x width: {sizes}.",
        f"MACs: {CONVENTION}.",
        f"Latency: median and quartiles of {plan.rounds} x {protocol.repeats} forward passes on {device} ({precision}"
        f"{', torch.compile' if protocol.compile else ''}{threads}){clock}, in rounds in which the networks of a scale "
        f"take turns, each in a process of its own and after {protocol.warmup + 1} passes that do not count.",
        f"Memory: {MEANING[protocol.device]}.",
        *convention(plan.rows, plan.environment["threads"]),
        f"PSNR in dB and SSIM of the Y channel by BasicSR's validation ({precision}), borders cropped as the option "
        "file says, or else by the scale.",
        *_perceptual({metric for row in plan.rows for metric in row.metrics}),
    ]


def _perceptual(metrics: set[str]) -> list[str]:
    """Say what the further metrics mean, where there are any."""
    if not metrics:
        return []
    from esc_arch.metrics.pyiqa_metric import FOLDER_METRICS

    lower = ", ".join(name.upper() for name in LOWER_IS_BETTER if name in metrics)
    sources = (["BasicSR (NIQE)"] if "niqe" in metrics else []) + (["pyiqa"] if metrics - {"niqe"} else [])
    direction = f" Lower is better: {lower}." if lower else ""
    together = ", ".join(name.upper() for name in FOLDER_METRICS if name in metrics)
    sets = f" {together}: of all images of a data set together." if together else ""
    return [f"Further metrics by {' and '.join(sources)}, on whole images.{sets}{direction}"]


def _line(plan: Plan, record: Record, row: Any) -> Line:
    line: Line = {
        "label": row.label,
        "file": row.file,
        "type": None,
        "scale": None,
        "dtype": row.dtype,
        "runtime": row.runtime,
        "sets": list(row.sets),
        "quality": {},
    }
    line.update(problems=row.problems, remark=row.remark)
    if not row.content or "" in row.problems:
        return line
    line.update(type=row.network.get("type"), scale=row.scale, weights=row.weights)
    if "attn_type" in row.network:
        line["attn_type"] = row.network["attn_type"]
    if row.timed or not row.is_bicubic:
        line.update(record.get(plan.key(row, "parameters"), 0) or {})
    line.update((record.get(plan.key(row, "macs"), 0) or {}) if row.timed else {})
    rounds = [record.get(plan.key(row, "speed"), number) for number in range(plan.rounds)] if row.timed else []
    rounds = [values for values in rounds if values is not None]
    if rounds and "speed" not in row.problems:
        times = [values["times_ms"] for values in rounds]
        q1, median, q3 = np.percentile(np.concatenate(times), [25, 50, 75])
        line["latency_ms"] = {"median": median, "q1": q1, "q3": q3, "rounds": times}
        memory = [values["memory_mib"] for values in rounds if values["memory_mib"] is not None]
        line["memory_mib"] = max(memory, default=None)
        line["input"] = rounds[0]["input"]
        if row.runtime != PYTORCH:
            line["difference"] = max(values["difference"] for values in rounds)
            line["remark"] = verdict(row, rounds)
    if "input" in line and tuple(line["input"]) != tuple(plan.sizes[row.scale]):
        padded = "input padded to {} x {}, whole windows".format(*line["input"])
        line["remark"] = "; ".join(part for part in (padded, line["remark"]) if part)
    if row.is_scored:
        scores = {name: record.get(plan.key(row, name), 0) for name in row.sets if name not in row.problems}
        scores = {name: dict(values) for name, values in scores.items() if values is not None}
        told = dict.fromkeys(values.pop("remark", "") for values in scores.values())
        line["remark"] = "; ".join(part for part in (line["remark"], *told) if part)
        line["quality"] = scores
    return line
