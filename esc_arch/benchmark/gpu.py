"""Everything that is to be known of a GPU, in one go: `python -m esc_arch.benchmark --gpu`."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from esc_arch.benchmark.gpu_cases import COMPILED, Case, runner, sections
from esc_arch.benchmark.timing import table
from esc_arch.common.claims import CLAIMS, FAIL, OPEN, PASS, verdict
from esc_arch.common.peak_memory import MEANING, PeakMemory

TESTS = Path(__file__).parents[2] / "test_esc"  # in a clone; an installation has none
GOALS = {"ms": 2.0, "mib": 1.7}  # how many times less than the plain path with Flex, the memory being 0.6 of it
TESTS_TAKE = 120  # seconds that are kept for the tests


@dataclass(frozen=True)
class Setting:
    """How to measure.

    Attributes:
        device: `cpu` or `cuda`.
        output: height and width of the enlarged image.
        patch: side of the LQ patches of a training step.
        batch: their number.
        rounds: how often each case is timed.
        minutes: after so many, what is left is left out, and named.
    """

    device: str
    output: tuple[int, int]
    patch: int
    batch: int
    rounds: int
    minutes: float


def measure_all(setting: Setting, machine: dict[str, Any]) -> dict[str, Any]:
    """Measure every case, try the claims, and run the tests that need a GPU.

    Returns:
        `machine`, `setting`, `sections` (a title and cases each, with `ms`, `mib` and `problem`), `claims`, `tests`.
    """
    end = time.monotonic() + 60 * setting.minutes
    known: dict[Case, dict[str, Any]] = {}
    written = []
    for title, cases in sections():
        for case in cases:
            if case not in known:
                late = time.monotonic() > end - TESTS_TAKE * min(setting.minutes / 8, 1)
                known[case] = _left_out() if late else measure(case, setting)
            shown = f"{known[case]['ms']:.2f} ms" if known[case]["ms"] else known[case]["problem"]
            print(f"{title}: {_label(case)}, {case.dtype}, x{case.scale}: {shown}", file=sys.stderr, flush=True)
        written.append({"title": title, "cases": [{**asdict(case), **known[case]} for case in cases]})
    claims = _claims(known)
    tests = _tests(max(end - time.monotonic(), 30))
    return {"machine": machine, "setting": asdict(setting), "sections": written, "claims": claims, "tests": tests}


def measure(case: Case, setting: Setting) -> dict[str, Any]:
    """Return the median time in ms (`ms`) and the peak memory (`mib`) of a case, or its `problem`."""
    try:
        milliseconds, mebibytes = _timed(case, setting)
    except Exception as error:  # what a GPU has no kernel or no memory for is a line of the report, not its end
        return {"ms": None, "mib": None, "problem": str(error).partition("\n")[0] or type(error).__name__}
    finally:
        if case.mode == COMPILED:
            torch._dynamo.reset()
        if setting.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
    return {"ms": milliseconds, "mib": mebibytes, "problem": ""}


def _timed(case: Case, setting: Setting) -> tuple[float, float | None]:
    cuda = setting.device == "cuda"
    run = runner(case, setting.device, setting.output, setting.patch, setting.batch)
    memory = PeakMemory(setting.device)
    run()
    _wait(cuda)
    mebibytes = memory.mebibytes()
    run()
    times = []
    for _ in range(setting.rounds):
        _wait(cuda)
        start = time.perf_counter()
        run()
        _wait(cuda)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times), mebibytes


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


def _left_out() -> dict[str, Any]:
    return {"ms": None, "mib": None, "problem": "left out: the time was up"}


def _claims(known: dict[Case, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare what was measured with what the paper claims, and with the goals of this package."""
    results = []

    def add(text: str, better: Case, worse: Case, goals: dict[str, float]) -> None:
        for quantity, claimed in goals.items():
            ratio = _ratio(known.get(worse, {}).get(quantity), known.get(better, {}).get(quantity))
            line = {"claim": text, "dtype": better.dtype, "quantity": {"ms": "latency", "mib": "memory"}[quantity]}
            results.append({**line, "claimed": claimed, "measured": ratio, "verdict": verdict(claimed, ratio)})

    for dtype in ("fp32", "fp16", "bf16"):
        for claim in CLAIMS:
            better = Case(claim.better, claim.scale, dtype)
            worse = Case(claim.worse, claim.scale, dtype) if claim.worse else Case(
                claim.better, claim.scale, dtype, "Naive", plain=True
            )  # fmt: skip
            add(claim.text, better, worse, {"ms": claim.latency, "mib": claim.memory})
        plain = Case("ESC", 2, dtype, "Flex", plain=True)
        add("ours against plain with Flex, x2", Case("ESC", 2, dtype), plain, GOALS)
    for dtype in ("fp32", "bf16"):
        ours = Case("ESC", 2, dtype, training=True)
        plain = Case("ESC", 2, dtype, "Flex", plain=True, training=True)
        add("training step, ours against plain with Flex", ours, plain, GOALS)
    return results


def _ratio(more: float | None, less: float | None) -> float | None:
    return more / less if more is not None and less else None


def _tests(seconds: float) -> dict[str, str]:
    """Run the tests that need a GPU."""
    if not TESTS.is_dir():
        return {"verdict": OPEN, "said": "the tests are in a clone of the repository"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(TESTS)]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # what is said stays known
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=plain)
    except subprocess.TimeoutExpired:
        return {"verdict": OPEN, "said": f"not done in {seconds:.0f} s"}
    lines = (done.stdout + done.stderr).strip().splitlines()
    said = lines[-1] if lines else f"exit code {done.returncode}"
    passed = done.returncode == 0 and " passed" in said
    return {"verdict": PASS if passed else OPEN if done.returncode in (0, 5) else FAIL, "said": said}


def _label(case: Case) -> str:
    ways = [f"{case.attention} attention" if case.attention else "", "plain" if case.plain else ""]
    ways += [case.mode if case.mode != "eager" else "", "training" if case.training else ""]
    return ", ".join([case.network, *(way for way in ways if way)])


def markdown(report: dict[str, Any]) -> str:
    """Lay the report out as Markdown."""
    setting = report["setting"]
    height, width = setting["output"]
    parts = [
        ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None),
        f"Output {height} x {width}; training steps of {setting['batch']} patches of {setting['patch']} x "
        f"{setting['patch']}. Median of {setting['rounds']} runs. fp16 and bf16 by "
        f"autocast. Memory: {MEANING[setting['device']]}.",
    ]
    for section in report["sections"]:
        rows = [
            [
                _label(Case(**{key: line[key] for key in Case.__dataclass_fields__})),
                f"x{line['scale']}",
                line["dtype"],
                "-" if line["ms"] is None else f"{line['ms']:.2f}",
                "-" if line["mib"] is None else f"{line['mib']:.0f}",
                line["problem"],
            ]
            for line in section["cases"]
        ]
        parts.append(table([section["title"], "scale", "dtype", "ms", "MiB", "note"], rows))
    rows = [
        [
            line["claim"],
            line["dtype"],
            line["quantity"],
            f"{line['claimed']:g}",
            "-" if line["measured"] is None else f"{line['measured']:.2f}",
            line["verdict"],
        ]
        for line in report["claims"]
    ]
    parts.append(table(["claim, so many times less", "dtype", "quantity", "claimed", "measured", "verdict"], rows))
    parts.append(f"pytest -m gpu: {report['tests']['verdict']} ({report['tests']['said']})")
    return "\n\n".join(parts) + "\n"


def as_json(report: dict[str, Any]) -> str:
    """Write the report as JSON."""
    return json.dumps(report, indent=2) + "\n"
