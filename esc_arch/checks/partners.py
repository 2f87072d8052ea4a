"""Images of GT and LQ that have no partner: which ones, and what would help."""

from __future__ import annotations

import os
from typing import Any

from esc_arch.checks.clips import CLIPS
from esc_arch.checks.decoding import Size
from esc_arch.checks.lmdb import AGAIN
from esc_arch.common.errors import UserError, some

Options = dict[str, Any]
ROOTS = ("dataroot_gt", "dataroot_lq")


def check_keys(sizes: dict[str, dict[str, Size]], where: str) -> None:
    """Check that the LMDBs of a data set of pairs have the same keys.

    Raises:
        UserError: naming keys that one of them lacks.
    """
    gt, lq = (sizes[root] for root in ROOTS)
    alone = [f"{key} has no LQ" for key in sorted(gt.keys() - lq.keys())]
    alone += [f"{key} of dataroot_lq has no GT" for key in sorted(lq.keys() - gt.keys())]
    if alone:
        raise UserError(f"{where}: {some(alone, 3)}; the keys of both LMDBs must be the same, so {AGAIN}.")


def unpaired(dataset: Options) -> str:
    """Name the images of two folders that have no partner, as far as names can tell, and what would help."""
    from basicsr.utils import scandir

    folders = [dataset.get(root) for root in ROOTS]
    is_listed = dataset.get("meta_info_file") or dataset.get("meta_info")
    is_on_disk = (dataset.get("io_backend") or {}).get("type") == "disk"
    if None in folders or is_listed or not is_on_disk or dataset["type"] in CLIPS:
        return ""
    gt, lq = (set(scandir(folder)) for folder in folders)
    template = dataset.get("filename_tmpl", "{}")
    stems = {name: os.path.splitext(name) for name in gt}
    partners = {name: template.format(stem) + suffix for name, (stem, suffix) in stems.items()}
    lonely = [f"{name} has no LQ {partner}" for name, partner in sorted(partners.items()) if partner not in lq]
    spare = [f"{name} of dataroot_lq has no GT" for name in sorted(lq - set(partners.values()))]
    named = some(lonely + spare, 3)
    if lonely and _differ_in_suffix(partners, lq):
        return (
            f"{named}; LQ must have the suffix of its GT, so convert one of them, or list the pairs in meta_info of "
            "RealESRGANPairedDataset"
        )
    if lonely and (other := _template_that_fits(stems, lq)):
        return f"{named}; set filename_tmpl to '{other}'"
    return f"{named}; every GT needs its LQ, named by filename_tmpl" if named else ""


def _differ_in_suffix(partners: dict[str, str], lq: set[str]) -> bool:
    there = {os.path.splitext(name)[0] for name in lq}
    return all(os.path.splitext(partner)[0] in there for partner in partners.values())


def _template_that_fits(stems: dict[str, tuple[str, str]], lq: set[str]) -> str:
    """Find the template by which every GT has its LQ, such as {}x2, or return nothing."""
    name = min(stems)
    stem, suffix = stems[name]
    for other in sorted(lq):
        own, end = os.path.splitext(other)
        if end == suffix and stem in own and not set(own) & set("{}"):
            template = own.replace(stem, "{}", 1)
            if {template.format(stem) + suffix for stem, suffix in stems.values()} == lq:
                return template
    return ""
