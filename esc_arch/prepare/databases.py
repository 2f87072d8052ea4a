"""Writing and verifying LMDB datasets as BasicSR reads them."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
from basicsr.utils.lmdb_util import LmdbMaker
from tqdm import tqdm

from esc_arch.common.errors import UserError
from esc_arch.prepare.images import is_intact_png

Shapes = dict[str, tuple[int, int]]
"""Key of every sub-image with its height and width."""

_META_LINE = re.compile(r"([^.]+)\.png \((\d+),(\d+),3\) \d+")  # BasicSR takes all before the first dot as the key
_PAGE = 4096
_SAMPLED = 16


def write_lmdb(folder: Path, shapes: Shapes, path: Path) -> None:
    """Pack the PNGs of a folder into an LMDB, through BasicSR's `LmdbMaker`.

    The files are stored as they are. BasicSR's `make_lmdb_from_imgs` would decode and encode each of them again, one
    after the other, to the same bytes. The database is written beside its place, verified, and renamed: `path` stands
    for a whole database.

    Args:
        folder: holds KEY.png for every key, compressed at level 1, as `write_png` does.
        shapes: what to pack and to verify.
        path: the LMDB to make, ending in .lmdb; must not exist.

    Raises:
        UserError: a PNG is damaged, or the database cannot be written (disk full, for instance) or does not read back.
    """
    partial = path.with_name(f"{path.stem}.partial.lmdb")
    if partial.exists():
        shutil.rmtree(partial)
    keys = sorted(shapes)
    try:
        maker = LmdbMaker(str(partial), _map_size(folder, keys), batch=500)
        with contextlib.closing(maker.env):
            for key in tqdm(keys, desc=path.name, unit="image"):
                file = folder / f"{key}.png"
                data = file.read_bytes()
                if not is_intact_png(data):
                    raise UserError(f"{file} is damaged: delete it and run again.")
                maker.put(data, key, (*shapes[key], 3))
            maker.close()
    except lmdb.Error as error:
        raise UserError(f"{path} cannot be written ({error}): make room on the disk and run again.") from error
    fault = lmdb_fault(partial, shapes)
    if fault:
        raise UserError(f"{partial} does not read back as it was written ({fault}): check the disk and run again.")
    partial.rename(path)


def _map_size(folder: Path, keys: list[str]) -> int:
    """Bound the size of the database, which LMDB must know beforehand: whole pages per image, and as much for keys."""
    total = sum((folder / f"{key}.png").stat().st_size for key in keys)
    return total + 4 * _PAGE * (len(keys) + 1024)


def lmdb_fault(path: Path, shapes: Shapes) -> str | None:
    """Compare an LMDB with what it should hold.

    Keys and shapes of meta_info.txt and the number of entries in the database are compared completely; entries evenly
    spread over the keys are decoded.

    Returns:
        what is wrong, as part of a sentence, or None.
    """
    try:
        lines = (path / "meta_info.txt").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError):
        return "it has no readable meta_info.txt"
    found: Shapes = {}
    for line in lines:
        match = _META_LINE.fullmatch(line)
        if match is None:
            return f"meta_info.txt says '{line}'"
        found[match[1]] = (int(match[2]), int(match[3]))
    for key in sorted(shapes.keys() ^ found.keys()):
        return f"{key} is {'missing' if key in shapes else 'not among the inputs'}"
    for key, shape in shapes.items():
        if found[key] != shape:
            return f"{key} is {found[key][0]} x {found[key][1]} instead of {shape[0]} x {shape[1]}"
    if len(lines) != len(shapes):
        return "meta_info.txt names a key twice"
    return _content_fault(path, shapes)


def _content_fault(path: Path, shapes: Shapes) -> str | None:
    keys = sorted(shapes)
    try:
        with lmdb.open(str(path), readonly=True, lock=False, readahead=False) as env, env.begin() as transaction:
            entries = env.stat()["entries"]
            if entries != len(keys):
                return f"data.mdb holds {entries} entries, meta_info.txt {len(keys)}"
            for index in np.linspace(0, len(keys) - 1, min(_SAMPLED, len(keys))).astype(int):
                data = transaction.get(keys[index].encode("ascii"))
                image = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                if image is None or image.shape != (*shapes[keys[index]], 3):
                    return f"the entry {keys[index]} does not decode to an image of its shape"
    except lmdb.Error as error:
        return f"data.mdb cannot be read, {error}"
    return None
