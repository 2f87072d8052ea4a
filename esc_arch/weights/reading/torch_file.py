"""Files of `torch.save`, looked over before torch loads them, with `weights_only=True`.

torch trusts what a file says of itself: it takes memory for the sizes that are claimed, and of the check sums that it
writes it reads none, so that flipped bits would become weights.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterable
from typing import IO, Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.weights.reading.kinds import SUFFIXES_OF_CHECKPOINTS, UNPACK
from esc_arch.weights.reading.pickle_scan import Scan, Storage, UnsupportedPickleError, scan
from esc_arch.weights.reading.pickle_translation import translate
from esc_arch.weights.reading.stand_ins import dangerous, stand_ins

AGAIN = "copy or download it again"
PICKLES_OF_LEGACY = ("magic number", "protocol", "machine", "content", "keys of storages")
LARGEST_RATIO = 100  # of what a compressed archive unpacks to; torch compresses nothing
BYTES = {  # of a number, by the type of the storage
    **{
        "Double": 8,
        "Float": 4,
        "Half": 2,
        "BFloat16": 2,
        "Long": 8,
        "Int": 4,
        "Short": 2,
        "Char": 1,
        "Byte": 1,
        "Bool": 1,
    },
    **{"ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4},
}

_one_at_a_time = threading.Lock()  # torch keeps the classes that it lets through in one place


def read_zip(file: str) -> Any:
    """Read what torch.save writes since 1.6, a zip archive.

    Args:
        file: path.

    Returns:
        its content, with stand-ins for objects that are neither tensors nor containers.

    Raises:
        UserError: it is damaged, or another zip archive.
        Exception: of any kind; it is damaged.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, LookupError, NotImplementedError, OverflowError) as error:
        raise UserError(f"{file} is damaged (its end is missing, or not that of a zip archive); {AGAIN}.") from error
    with archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.partition("/")[2] == "data.pkl"]
        what = _other_archive(list(entries), bool(pickles))
        if what:
            raise UserError(f"{file} is {what[0]}, not a checkpoint; {what[1]}.")
        _require_whole(archive)
        if len(pickles) != 1:
            raise ValueError("it has several contents")
        pickled = archive.read(pickles[0])
        try:
            found, translated = scan(io.BytesIO(pickled)), None
        except UnsupportedPickleError:
            translated = translate(io.BytesIO(pickled))
            found = scan(io.BytesIO(translated))
        folder = pickles[0].removesuffix("data.pkl")
        for storage in found.storages:
            if entries[f"{folder}data/{storage.key}"].file_size < _size(storage):
                raise ValueError(f"it claims more numbers than it holds in {storage.key}")
        if translated is not None:
            return _load(_replaced(archive, pickles[0], translated), found, file)
    with open(file, "rb") as stream:
        return _load(stream, found, file)


def _replaced(archive: zipfile.ZipFile, name: str, content: bytes) -> IO[bytes]:
    """Copy an archive into memory with another content of one entry."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as target:
        for entry in archive.infolist():
            target.writestr(entry.filename, content if entry.filename == name else archive.read(entry))
    copy.seek(0)
    return copy


def read_legacy(file: str) -> Any:
    """Read what torch.save wrote before 1.6: pickles, and then the numbers.

    Args:
        file: path.

    Returns:
        its content, as `read_zip`.

    Raises:
        UserError: it holds what is no weight.
        Exception: of any kind; it is damaged.
    """
    with open(file, "rb") as opened:
        stream = io.BytesIO(opened.read())  # which gives what there is, where a pickle asks for more
    try:
        scans = [scan(stream) for _ in PICKLES_OF_LEGACY]
    except UnsupportedPickleError:
        stream.seek(0)
        translated = b"".join(translate(stream) for _ in PICKLES_OF_LEGACY)
        stream = io.BytesIO(translated + stream.read())
        scans = [scan(stream) for _ in PICKLES_OF_LEGACY]
    left = len(stream.getbuffer()) - stream.tell()
    sizes = {storage.key: _size(storage) for storage in scans[3].storages}
    if sum(sizes.values()) > left:
        raise ValueError("it claims more numbers than it holds")
    stream.seek(0)
    return _load(stream, scans[3], file)


def _load(stream: IO[bytes], found: Scan, file: str) -> Any:
    call = dangerous(found)
    if call:
        raise UserError(
            f"{file} holds more than tensors: a call of {call}, which was not run; such files can harm, take the "
            "checkpoint from a source that you trust."
        )
    with _one_at_a_time, torch.serialization.safe_globals(list(stand_ins(found))):
        return torch.load(stream, map_location="cpu", weights_only=True)


def _size(storage: Storage) -> int:
    """Return the bytes that a storage claims to have."""
    kind = storage.type.rpartition(".")[2].removesuffix("Storage")
    return storage.count * BYTES.get(kind, 1)


def _require_whole(archive: zipfile.ZipFile) -> None:
    """Compare check sums; 0 stands for none, as torch writes where it was told to do without."""
    size = sum(entry.compress_size for entry in archive.infolist())
    for entry in archive.infolist():
        if entry.file_size > LARGEST_RATIO * max(size, 2**20):
            raise ValueError("it claims to unpack to more than it can hold")
        if not entry.CRC:
            del entry.CRC  # zipfile compares nothing then
        with archive.open(entry) as stream:
            while stream.read(2**20):  # raises where the sum is another
                pass


def _other_archive(names: list[str], pickled: bool) -> tuple[str, str] | None:
    """Say what a zip archive is that torch.save did not write, and what to do."""
    ends = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in ends:
        return "a network compiled by TorchScript", "give the checkpoint that it was made from"
    if ends & {"serialized_exported_program.json", "archive_format", "archive_version", "models/model.json"}:
        return "a program that torch.export saved", "give the checkpoint that it was made from"
    if pickled:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", "save them as a checkpoint with torch.save or safetensors"
    if "model.weights.h5" in names:
        return "a model of Keras", "choose a checkpoint of PyTorch"
    inside = [name for name in names if name.lower().endswith(SUFFIXES_OF_CHECKPOINTS)]
    if inside:
        return f"a zip archive that holds {_listed(inside)}", UNPACK
    return f"a zip archive that holds {_listed(names) or 'nothing'}", "choose a checkpoint"


def _listed(names: Iterable[str]) -> str:
    shown = [name for name in names if not name.endswith("/")]
    return ", ".join(repr(name)[1:-1] for name in shown[:3]) + (", ..." if len(shown) > 3 else "")


__all__ = ["UnsupportedPickleError", "read_legacy", "read_zip"]
