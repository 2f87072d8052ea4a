"""One data set of the option file from several folders or LMDBs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import ConcatDataset, Dataset

Options = dict[str, Any]

ROOTS = ("dataroot_gt", "dataroot_lq")
BESIDE_ROOTS = ("filename_tmpl", "meta_info_file", "meta_info")


def one_root_each(opt: Options) -> list[Options]:
    """Split a section of `datasets` whose roots are lists into sections of one root.

    Args:
        opt: the section; `filename_tmpl` and `meta_info_file` are one for all roots, or lists too.

    Returns:
        the sections, or `opt` alone where no root is a list.

    Raises:
        ValueError: the lists are not equally long.
    """
    lists = {key: opt[key] for key in (*ROOTS, *BESIDE_ROOTS) if isinstance(opt.get(key), list | tuple)}
    if not any(root in lists for root in ROOTS):
        return [opt]
    lengths = {key: len(values) for key, values in lists.items()}
    single = [root for root in ROOTS if opt.get(root) is not None and root not in lists]
    if len(set(lengths.values())) > 1 or single or 0 in lengths.values():
        found = [f"{key} {length}" for key, length in lengths.items()] + [f"{root} 1" for root in single]
        raise ValueError(f"the lists of one data set must be equally long, got {', '.join(found)}")
    count = next(iter(lengths.values()))
    return [{**opt, **{key: values[index] for key, values in lists.items()}} for index in range(count)]


class SeveralRoots(ConcatDataset):  # type: ignore[type-arg]
    """The images of several data sets of BasicSR, one after the other.

    Args:
        parts: the data sets.
        opt: the section of the option file that they come from.
    """

    def __init__(self, parts: list[Dataset[Any]], opt: Options) -> None:
        super().__init__(parts)
        self.opt = opt
        self.paths = [path for part in parts for path in getattr(part, "paths", [])]


def build(opt: Options, one: Callable[[Options], Dataset[Any]]) -> Dataset[Any]:
    """Build the data set of a section, by `one` for each of its roots.

    Args:
        opt: the section of `datasets`.
        one: builds a data set of one root, such as BasicSR's `build_dataset`.
    """
    sections = one_root_each(opt)
    return SeveralRoots([one(section) for section in sections], opt) if len(sections) > 1 else one(sections[0])
