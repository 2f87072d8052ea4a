"""Writes docs/options.md and docs/options.schema.json from the table: `python -m esc_arch.checks.document [FOLDER]`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from esc_arch.checks.table import ARGUMENTS, NAMES, SECTIONS, TRAIN, Option

Schema = dict[str, Any]
ABOUT = {
    "": "Top level",
    "datasets:*": "`datasets`: in training `train`, `val` or `val_1`, `val_2`...; in testing `test_1`, `test_2`...",
    "datasets:*:io_backend": "`io_backend` of each data set",
    "path": "`path`",
    "train": "`train`",
    "train:optim_*": "`train: optim_g`, `optim_d`; further keys are arguments of the class in torch.optim",
    "train:scheduler": "`train: scheduler`",
    "train:*_opt": "`train: {}`; further keys are arguments of the loss",
    "tile": "`tile`, for large images: they go through the network in tiles when validating and testing",
    "val": "`val`",
    "val:metrics:*": "`val: metrics`, each under a name of its own; further keys are arguments of the metric",
    "logger": "`logger`",
    "logger:wandb": "`logger: wandb`",
    "dist_params": "`dist_params`",
    "network_*": "`network_g`, `network_d`; further keys are arguments of the network",
}
HEAD = """# Options

All options of an option file, written from `esc_arch/checks/table.py` by `python -m esc_arch.checks.document`; a test
keeps this page current. Most are BasicSR's; those that this package adds say so. `~` stands for nothing. A number may
be written as YAML 1.2 writes it, `1e-4`, which YAML 1.1 takes for text.

Before anything is written, `esc_arch.train` and `esc_arch.test` check every value, build every part, and refuse what
cannot work in one sentence. An unknown key that looks like a known one is refused with "did you mean"; other keys that
nobody reads are named in one warning, so that option files of other projects run. `--force_yml section:key=value ...`
changes options for one run, or adds those of this page.

In an editor with a YAML language server, this first line of an option file completes and checks options while you type
(the path is that of `docs/options.schema.json`):

    # yaml-language-server: $schema=../docs/options.schema.json

## The data

What is checked of the images before the first iteration:

- Folders and lists: every picture, and every frame of clips, is decoded as training decodes it, by OpenCV, and its size
  is compared with that of its pair and with `gt_size`. What is damaged, foreign or missing is named, all at once. So is
  what OpenCV takes for something else without a word: signed TIFFs, some of turned ones in tiles, PNMs whose white is
  neither 255 nor 65535, PFMs. Lists may be written by any editor. Images that are given more than once, by a list, by
  roots or by links, folders below a root, and 16 bits of which few are used come with a warning.
- An LMDB: all keys, the number of entries, the length of the file, and all sizes in `meta_info.txt`, compared likewise;
  of its pictures {sample}, evenly spread, are decoded. So one of 100 000 entries takes seconds; damage in a picture
  that is not in the sample is found when training reads it, and ends it with the key.
- Pairs, of an LMDB 100 of them: LQ must show what its GT shows. LQ that is turned or mirrored, as where EXIF turned
  only one of the two, that has red and blue exchanged, or that shows what another GT shows is refused; what hardly
  resembles its GT comes with a warning, and so does all of this where much of the data is so.
- What the model reads, such as the blur kernels of `RealESRGANDataset`, must be what the type of data set gives.

A bar shows how far the decoding is, and a line every half minute where there is no terminal. Pictures that were found
whole are remembered in `~/.cache/esc_arch` (`$XDG_CACHE_HOME`) by path, size and time of change, so the next start is
quick; an LMDB as one file. `--skip_data_check` leaves the decoding out.

"""


def page() -> str:
    """Write docs/options.md."""
    from esc_arch.checks.lmdb import SAMPLE

    parts = [HEAD.format(sample=SAMPLE)]
    for section, options in SECTIONS.items():
        heading = ABOUT[section].format("`, `".join(NAMES.get(section, ())))
        parts.append(f"## {heading}\n\n| Option | Must be | Without it | What it does |\n|---|---|---|---|\n")
        for name, option in options.items():
            names = ", ".join(f"`{each}`" for each in NAMES.get(name, (name,)))
            parts.append(f"| {names} | {_cell(_allowed(option))} | {_without(option)} | {_cell(_about(option))} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def schema() -> Schema:
    """Describe an option file as JSON schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Option file of esc_arch and BasicSR",
        **_section(""),
    }


def _section(pattern: str) -> Schema:
    """Describe a section and those below it."""
    properties: Schema = {}
    patterns: Schema = {}
    required = []
    for name, option in SECTIONS.get(pattern, {}).items():
        for each in NAMES.get(name, (name,)):
            properties[each] = _option(option)
        if TRAIN in option.needed and "test" in option.needed:
            required.append(name)
    depth = len(pattern.split(":")) if pattern else 0
    for other in SECTIONS:
        parts = other.split(":")
        if not other or parts[:depth] != (pattern.split(":") if pattern else []) or len(parts) <= depth:
            continue
        below, last = ":".join(parts[: depth + 1]), parts[depth]
        described = {"anyOf": [_section(below), {"type": "null"}]}
        if last == "io_backend":
            described = {"anyOf": [_section(below), {"type": "array", "items": _section(below)}]}
        if below in NAMES:
            properties.update(dict.fromkeys(NAMES[below], described))
        elif "*" in last:
            patterns["^.+$"] = described
        else:
            properties[last] = described
    written: Schema = {"type": "object", "properties": properties}
    if patterns:
        written["patternProperties"] = patterns
    if required:
        written["required"] = required
    if pattern in SECTIONS and pattern not in ARGUMENTS and pattern:
        written["additionalProperties"] = False
    return written


def _option(option: Option) -> Schema:
    described = dict(option.kind.schema)
    if described and not option.needed:
        described = {"anyOf": [described, {"type": "null"}]}
    return {**described, "description": _about(option)}


def _allowed(option: Option) -> str:
    return option.kind.allowed + (", or ~" if option.empty and option.works else "")


def _without(option: Option) -> str:
    if option.needed:
        return "needed" if len(option.needed) > 1 else f"needed in {option.needed[0]}ing"
    return _cell(option.fallback)


def _about(option: Option) -> str:
    about = option.about if option.works else f"has no effect here: {option.about}"
    about += " (esc_arch)" if option.reader == "esc_arch" else ""
    return about + (f"; of {', '.join(option.only)}" if option.only else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Run the command."""
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..", "docs")
    for name, text in (("options.md", page()), ("options.schema.json", json.dumps(schema(), indent=1) + "\n")):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
