"""Helpers of the tests that run the comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from esc_arch.compare.__main__ import main

Options = dict[str, Any]
QUICK = ["--size", "12x20", "--rounds", "2", "--repeats", "2", "--warmup", "0", "--device", "cpu", "--output", "out"]


def write(name: str, options: Options, **changes: Any) -> str:
    """Write an option file with some sections changed; None removes one."""
    content = {**options, **changes}
    Path(name).write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return name


def compare(*arguments: str) -> int:
    """Run the command and return its exit code."""
    try:
        main([*arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def entries() -> list[Options]:
    return [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]


def networks() -> dict[str, Options]:
    return {line["label"]: line for line in json.loads(Path("out/comparison.json").read_text())["networks"]}
