"""What a file is, by its first bytes: one of the formats of checkpoints, or something else that can be named."""

from __future__ import annotations

import os
import re
import stat
from enum import Enum

from esc_arch.common.errors import UserError
from esc_arch.weights.reading.in_parts import INDEX

HEAD = 4096  # bytes that are looked at
# the number that begins torch's format of before 1.6, as pickled by protocol 2 and later, and before
MAGIC_OF_TORCH = (b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"L119547037146038801333356L\n")
PARTS_OF_FIRST_FORMAT = (b"sys_info\0", b"pickle\0", b"tensors\0", b"storages\0")  # of torch before 0.1.10
SUFFIXES_OF_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
DISTRIBUTED = ".distcp"  # how files end of which torch.distributed.checkpoint writes one for each process
JOIN = "make one of them by python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
CHOOSE = "choose a checkpoint"
UNPACK = "unpack it and give the checkpoint inside"
AGAIN = "copy or download it again"
OTHER_FORMATS = {  # first bytes: what it is, and what to do
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras and MATLAB write", CHOOSE + " of PyTorch"),
    b"\x93NUMPY": ("an array of NumPy", CHOOSE),
    b"\x1f\x8b": ("a file compressed by gzip", UNPACK),
    b"\xfd7zXZ\0": ("a file compressed by xz", UNPACK),
    b"BZh": ("a file compressed by bzip2", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a file compressed by zstd", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", UNPACK),
    b"GGUF": ("a GGUF model", CHOOSE + " of PyTorch"),
    b"\x89PNG": ("a picture (PNG)", CHOOSE),
    b"\xff\xd8\xff": ("a picture (JPEG)", CHOOSE),
    b"GIF8": ("a picture (GIF)", CHOOSE),
    b"II*\0": ("a picture (TIFF)", CHOOSE),
    b"MM\0*": ("a picture (TIFF)", CHOOSE),
    b"%PDF": ("a PDF document", CHOOSE),
    b"\x7fELF": ("a program", CHOOSE),
    b"MZ": ("a program", CHOOSE),
    b"MATLAB 5.0": ("a MATLAB file", CHOOSE + " of PyTorch"),
}


class Kind(Enum):
    """Formats of checkpoints."""

    SAFETENSORS = "safetensors"
    ZIP = "zip archive"
    LEGACY = "format of torch before 1.6"
    INDEX = "index of a checkpoint in several files"


def kind_of(file: str) -> Kind:
    """Find out the format of a checkpoint; its suffix does not count.

    Args:
        file: a path.

    Returns:
        the format that its first bytes are those of; the rest may be damaged.

    Raises:
        UserError: there is no such file, or it is something else.
    """
    head, size = _head(file)
    if file.endswith(DISTRIBUTED) and os.path.isfile(os.path.join(os.path.dirname(file), ".metadata")):
        raise UserError(f"{file} is a part of a distributed checkpoint of PyTorch, not a checkpoint; {JOIN}.")
    if head.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if any(magic in head[:32] for magic in MAGIC_OF_TORCH):
        return Kind.LEGACY
    # a header that is too long, as damage makes it, is still one; but text may have a brace at the ninth place, too
    if head[8:9] == b"{" and not _is_text(head[:8]):
        return Kind.SAFETENSORS
    if _is_text(head) and (b'"weight_map"' in head or file.endswith(INDEX)):
        return Kind.INDEX
    what, advice = _other(head, size)
    raise UserError(f"{file} is {what}, not a checkpoint; {advice}.")


def _head(file: str) -> tuple[bytes, int]:
    """Read the beginning of a file, and its size."""
    try:
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            if any(name.endswith(DISTRIBUTED) for name in os.listdir(file)):
                raise UserError(f"{file} is a distributed checkpoint of PyTorch, in many files; {JOIN}.")
            inside = sorted(name for name in os.listdir(file) if name.lower().endswith(SUFFIXES_OF_CHECKPOINTS))
            found = f" ({', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''})" if inside else ""
            raise UserError(f"{file} is a folder, not a checkpoint; give the path of a file in it{found}.")
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{file} is a device, not a checkpoint; {CHOOSE}.")
        with open(file, "rb") as stream:
            return stream.read(HEAD), status.st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        if "://" in file:
            raise UserError(f"{file} is an address; download the checkpoint and give its path.") from error
        raise UserError(f"{file} does not exist; give the path of a checkpoint.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error}); {CHOOSE}.") from error


def _other(head: bytes, size: int) -> tuple[str, str]:
    """Say what a file is that is no checkpoint, and what to do."""
    if not size:
        return "empty", AGAIN
    if head.startswith(b"PK\x05\x06"):
        return "a zip archive with nothing in it", AGAIN
    if head[257:262] == b"ustar":
        if head.startswith(PARTS_OF_FIRST_FORMAT):
            return "in the first format of torch (of before 2017)", "load and save it with torch 1 first"
        return "a tar archive", UNPACK
    for magic, told in OTHER_FORMATS.items():
        if head.startswith(magic):
            return told
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a picture (WebP)", CHOOSE
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite", CHOOSE + " of PyTorch"
    if not head.strip(b"\0"):
        return "a file that begins with nothing but zeros", AGAIN
    if _is_text(head):
        return _text(head.decode("utf-8", "replace").lstrip("\ufeff").lstrip())
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x3a]", head):  # the version, then the next field of the protobuf
        return "an ONNX model", "give the checkpoint that it was exported from"
    if re.match(rb"\x80[\x00-\x05]", head):
        advice = "save the tensors with torch.save where the pickle was made"
        return "a pickle of Python that torch.save did not write", advice
    return "damaged, or of a format that is unknown here", "choose another file"


def _text(text: str) -> tuple[str, str]:
    """Say what a text is."""
    start = text[:200].lower()
    if start.startswith("version https://git-lfs"):
        return "a pointer of Git LFS", "fetch the file itself with git lfs pull, or download it"
    if "/annex/objects/" in start:
        return "a pointer of git-annex", "fetch the file itself with git annex get"
    if start.startswith(("<!doctype html", "<html", "<head")) or "<html" in start:
        return "a web page", "open the address in a browser and download the file itself"
    if start.startswith("<?xml") or start.startswith("<"):
        return "a text (XML), perhaps the answer of a server", "download the file itself"
    if start.startswith(("{", "[")):
        return "a text (JSON), perhaps the answer of a server", "download the file itself"
    return "a text file", CHOOSE


def _is_text(head: bytes) -> bool:
    """Tell whether these are characters, with no control characters among them."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or not error.start:  # a character may be cut at the end
            return False
        text = head[: error.start].decode("utf-8")
    return not re.search(r"[\0-\x08\x0e-\x1f\x7f]", text)
