"""Reads option files as rows of the comparison: which network, at which scale, on which data, with which weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from esc_arch.checks.network_file import assign_weights, named_weights, read_network_file, scale_of, short_name
from esc_arch.common.errors import UserError
from esc_arch.common.paths import expand_in

Options = dict[str, Any]
PYTORCH = "pytorch"
TIMED = ("parameters", "speed", "macs")  # what is measured besides the scores of data sets, which have their names


@dataclass
class Row:
    """One network of the comparison.

    Attributes:
        label: short name in tables and pictures.
        file: path of the option file, as given.
        content: the option file; empty when it cannot be used.
        scale: factor between input and output.
        timed: measure latency, memory and multiply-accumulates, not only PSNR and SSIM.
        sets: sections of `datasets` to score on, by the name of the data set.
        weights: checkpoint to score with, None for a network without parameters or without a checkpoint.
        param_key: entry of the checkpoint to take.
        metrics: what to score by besides PSNR and SSIM: `niqe`, or the name of a metric of pyiqa.
        dtype: `fp32`, or `fp16` or `bf16` for autocast.
        runtime: `pytorch`, or the runtime that computes it as a graph.
        remark: why there is no score, when this is no mistake.
        problems: what went wrong, by task; `""` stands for the row as a whole.
    """

    label: str
    file: str
    content: Options = field(default_factory=dict)
    scale: int = 1
    timed: bool = True
    sets: dict[str, Options] = field(default_factory=dict)
    weights: str | None = None
    param_key: str | None = None
    metrics: tuple[str, ...] = ()
    dtype: str = "fp32"
    runtime: str = PYTORCH
    remark: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def network(self) -> Options:
        """The section `network_g`."""
        return self.content["network_g"]

    @property
    def title(self) -> str:
        """The label, with the dtype where it is a special one."""
        return self.label if self.dtype == "fp32" else f"{self.label} {self.dtype}"

    @property
    def is_bicubic(self) -> bool:
        """Whether it is bicubic enlargement, which has no parameters."""
        return self.network.get("type") == "Bicubic"

    @property
    def is_scored(self) -> bool:
        """Whether the network can be scored: it has weights, or needs none, and PyTorch runs it."""
        return self.runtime == PYTORCH and (self.weights is not None or self.is_bicubic)


def read_rows(files: list[str], weights: list[str], names: list[str] | None) -> list[Row]:
    """Make a row of every option file; a file that cannot be used becomes a row with a problem.

    Args:
        files: paths of option files.
        weights: `FILE=CHECKPOINT`, where FILE is one of `files` or its last part.
        names: data sets to score on, None for all that a file names outside of training.

    Returns:
        the rows, in the order of `files`.

    Raises:
        UserError: a file is given twice, or `weights` cannot be understood.
    """
    for file in files:
        if files.count(file) > 1:
            raise UserError(f"{file} is given twice; name every option file once.")
    checkpoints = assign_weights(weights, files)
    labels = [short_name(file) for file in files]
    rows = []
    for file, label in zip(files, labels, strict=True):
        row = Row(label if labels.count(label) == 1 else file, file)
        try:
            row.content = read_network_file(file)
            row.scale = scale_of(file, row.content)
            _select_sets(row, names)
            _find_weights(row, checkpoints.get(file))
        except UserError as error:
            row.problems[""] = str(error)
        rows.append(row)
    return rows


def bicubic_rows(rows: list[Row]) -> list[Row]:
    """Make a row of bicubic enlargement for every scale, on the data sets of the first file of that scale."""
    baselines: dict[int, Row] = {}
    for row in rows:
        sets = {name: dataset for name, dataset in row.sets.items() if name not in row.problems}
        if row.content and sets and row.scale not in baselines:
            content = deepcopy(row.content)
            content.update(network_g={"type": "Bicubic", "upscaling_factor": row.scale}, model_type="SRModel", path={})
            bicubic = replace(row, label=f"bicubic x{row.scale}", content=content, timed=False, sets=sets)
            baselines[row.scale] = replace(bicubic, weights=None, remark="", problems={})
    return list(baselines.values())


def in_every_dtype(rows: list[Row], dtypes: list[str]) -> list[Row]:
    """Repeat the rows for every dtype; those that cannot be used at all are not repeated."""
    repeated: list[Row] = []
    for dtype in dict.fromkeys(dtypes):
        usable = [row for row in rows if row.content and "" not in row.problems] if repeated else rows
        repeated += [replace(row, dtype=dtype, problems=dict(row.problems)) for row in usable]
    return repeated


def _select_sets(row: Row, names: list[str] | None) -> None:
    """Take the data sets that are not for training, as BasicSR tells them: by the part of the key before `_`.

    Raises:
        UserError: one has a name that would be taken for something else that is measured.
    """
    sections = row.content.get("datasets") or {}
    for key, dataset in sections.items():
        if not isinstance(dataset, dict) or key.partition("_")[0] == "train":
            continue
        name = str(dataset.get("name", key))
        if name in TIMED:
            raise UserError(f"{row.file}: datasets: {name!r} is what compare calls its own figures; rename the set.")
        if names is None or name in names:
            row.sets[name] = {**dataset, "phase": key.partition("_")[0], "scale": row.scale, "name": name}
            expand_in(row.sets[name])
    for name in names or []:
        if name not in row.sets:
            row.sets[name] = {}
            row.problems[name] = f"{row.file} has no validation or test set named {name}; correct --sets."


def _find_weights(row: Row, checkpoint: str | None) -> None:
    found = named_weights(row.content, checkpoint)
    row.weights, row.param_key = found.file, found.entry
    if found.file is None and row.network.get("type") != "Bicubic":
        row.remark = f"not scored: {found.reason}"
