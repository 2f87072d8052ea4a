"""Checks that an LMDB written by BasicSR is whole: its keys and the sizes of its images all, its pictures by sample."""

from __future__ import annotations

import os
import re

import cv2

from esc_arch.bridge import shared_lmdb
from esc_arch.checks.decoding import Size, decode_values
from esc_arch.checks.remembered import Remembered
from esc_arch.common.errors import UserError, some

SAMPLE = 500  # pictures that are decoded of a larger LMDB, evenly spread
AGAIN = "prepare it again as datasets/README.md says"
_META_LINE = re.compile(r"^(?P<key>[^.]+)\.\S+ \((?P<height>\d+),(?P<width>\d+),\d+\)")


def check_lmdb(folder: str, where: str, decode: bool = True) -> dict[str, Size]:
    """Check that an LMDB holds what its `meta_info.txt` says.

    Args:
        folder: the `.lmdb` folder.
        where: name of the option, for messages.
        decode: decode up to `SAMPLE` pictures too, unless they were found whole since the file last changed.

    Returns:
        height and width of all images, by key.

    Raises:
        UserError: a file is missing, truncated or damaged, or does not agree with the list.
    """
    import lmdb

    data, meta = os.path.join(folder, "data.mdb"), os.path.join(folder, "meta_info.txt")
    for file in (data, meta):
        if not os.path.isfile(file):
            raise UserError(f"{where}: {file} is missing, so {folder} is not a whole LMDB; {AGAIN}.")
        if os.path.getsize(file) == 0:
            raise UserError(f"{where}: {file} is empty, so {folder} is not a whole LMDB; {AGAIN}.")
    sizes = _listed_sizes(meta, where)
    try:
        with shared_lmdb.opened(folder) as database:
            pages = database.info()["last_pgno"] + 1
            entries = database.stat()["entries"]
            needed = pages * database.stat()["psize"]
            if os.path.getsize(data) < needed:
                raise UserError(f"{where}: {data} is truncated ({os.path.getsize(data)} of {needed} bytes); {AGAIN}.")
            if entries != len(sizes):
                raise UserError(
                    f"{where}: {folder} has {entries} images but meta_info.txt lists {len(sizes)}; {AGAIN}."
                )
            with database.begin() as transaction:
                for key in transaction.cursor().iternext(keys=True, values=False):
                    if key.decode("utf-8", "replace") not in sizes:
                        raise UserError(f"{where}: {folder} holds {key!r}, which meta_info.txt does not list; {AGAIN}.")
                if decode:
                    _check_sample(folder, sizes, lambda key: transaction.get(key.encode()), where)
    except lmdb.Error as error:
        raise UserError(f"{where}: {folder} is damaged ({error}); {AGAIN}.") from error
    return sizes


def _listed_sizes(meta: str, where: str) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    try:
        with open(meta, encoding="utf-8") as lines:
            for line in lines:
                match = _META_LINE.match(line)
                if match is None:
                    raise UserError(f"{where}: {meta} has a line that BasicSR cannot read ({line.strip()!r}); {AGAIN}.")
                if match["key"] in sizes:
                    raise UserError(f"{where}: {meta} lists {match['key']} twice; {AGAIN}.")
                sizes[match["key"]] = int(match["height"]), int(match["width"])
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {meta} is no text; {AGAIN}.") from error
    return sizes


def _check_sample(folder: str, sizes: dict[str, Size], read: object, where: str) -> None:
    data, state = os.path.join(folder, "data.mdb"), os.stat(os.path.join(folder, "data.mdb"))
    remembered = Remembered(folder, f"OpenCV {cv2.__version__}, {SAMPLE} of each LMDB")
    if remembered.get(data, state) is not None:
        return
    keys = sorted(sizes)
    step = max(len(keys) / SAMPLE, 1)
    sample = [keys[int(index * step)] for index in range(min(len(keys), SAMPLE))]
    findings = decode_values(read, sample, where)  # type: ignore[arg-type]
    wrong = [f"{key} {fault}" for key, fault in findings.faults.items()]
    wrong += [
        f"{key} is {show(found)} and not {show(sizes[key])} as meta_info.txt says"
        for key, found in findings.sizes.items()
        if found != sizes[key]
    ]
    if wrong:
        raise UserError(f"{where}: {folder} is damaged: {some(wrong)}; {AGAIN}.")
    remembered.add(data, state, (len(sample), len(keys)))
    remembered.save()


def thumbnails_in(folder: str, keys: list[str]) -> dict[str, bytes]:
    """Return the thumbnails of some images of an LMDB that is whole, by key."""
    with shared_lmdb.opened(folder) as database, database.begin() as transaction:
        found = decode_values(lambda key: transaction.get(key.encode()), keys, folder).whole
    return {key: found[key].thumbnail if key in found else b"" for key in keys}


def show(size: Size) -> str:
    """Write a size as width x height."""
    return f"{size[1]}x{size[0]}"
