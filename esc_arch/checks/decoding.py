"""Decodes pictures as training decodes them, with OpenCV, all of them and at once, and says which cannot be."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

import cv2
import numpy as np
from PIL import Image

from esc_arch.checks.likeness import thumbnail
from esc_arch.checks.meanings import decode_as_stored, is_whole, misread, strange_type
from esc_arch.checks.remembered import Remembered
from esc_arch.pictures.formats import HEAD, sniff

Size = tuple[int, int]  # height, width
GROUP = 256  # pictures that are decoded side by side before what was found is remembered
JPEG = b"\xff\xd8\xff"
SILENCE = 30  # seconds after which a line says how far the decoding is, where there is no terminal for a bar
MANY = 500  # pictures of which a line announces that they are decoded


@dataclass(frozen=True)
class Whole:
    """A picture that can be decoded: its height and width, and its thumbnail."""

    size: Size
    thumbnail: bytes


@dataclass
class Findings:
    """What was found in pictures, by path or key: those that are whole, and what is wrong with the others."""

    whole: dict[str, Whole] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, Size]:
        """Sizes of those that are whole."""
        return {name: found.size for name, found in self.whole.items()}


def decode_files(paths: Iterable[str], what: str) -> Findings:
    """Decode picture files, except those that are remembered as whole.

    Args:
        paths: of the files.
        what: whose pictures they are, for the progress bar.

    Returns:
        sizes and thumbnails as OpenCV has them, after turning as EXIF says, and faults.
    """
    findings, folders, states, waiting = Findings(), dict[str, Remembered](), dict[str, os.stat_result](), list[str]()
    for path in dict.fromkeys(paths):
        try:
            states[path] = os.stat(path)
        except OSError as error:
            findings.faults[path] = "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
            continue
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = Remembered(folder, f"OpenCV {cv2.__version__}, with thumbnails")
        known = folders[folder].get(path, states[path])
        if known is None:
            waiting.append(path)
        else:
            findings.whole[path] = Whole(*known)
    try:
        for path, found in _each(_read_file, waiting, what):
            if isinstance(found, str):
                findings.faults[path] = found
            else:
                findings.whole[path] = found
                folders[os.path.dirname(path)].add(path, states[path], found.size, found.thumbnail)
    finally:  # also when the user has waited long enough
        for remembered in folders.values():
            remembered.save()
    return findings


def decode_values(read: Callable[[str], bytes | None], keys: list[str], what: str) -> Findings:
    """Decode pictures that a function reads.

    Args:
        read: gives the bytes of a picture, or None where there is none.
        keys: of the pictures.
        what: whose pictures they are, for the progress bar.
    """
    findings = Findings()
    for key, found in _each(read, keys, what):
        if isinstance(found, str):
            findings.faults[key] = found
        else:
            findings.whole[key] = found
    return findings


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own: a process that is forked later would wait for them forever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _each(read: Callable[[str], bytes | None], names: list[str], what: str) -> Iterator[tuple[str, Whole | str]]:
    """Decode in as many threads as there are CPUs: OpenCV lets them run side by side."""
    if not names:
        return
    from tqdm import tqdm

    if len(names) > MANY:
        print(f"Decoding {len(names)} images of {what} to find damaged ones, once.", flush=True)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with one_thread(), _hearing() as (heard, terminal), ThreadPoolExecutor(min(cpus, 32)) as pool:
        bar = tqdm(total=len(names), desc=what, unit="image", file=terminal, leave=False, delay=1, disable=None)
        done, said = 0, time.monotonic()
        try:
            with bar:
                for start in range(0, len(names), GROUP):
                    group = names[start : start + GROUP]
                    found = dict(zip(group, pool.map(lambda name: _read_and_decode(read, name), group), strict=True))
                    if _tells_damage(heard()):
                        found.update(_damaged_jpegs(read, found, heard))
                    bar.update(len(group))
                    done += len(group)
                    if bar.disable and done < len(names) and time.monotonic() - said >= SILENCE:
                        said = time.monotonic()
                        print(f"{done} of {len(names)} images of {what} are decoded.", flush=True)
                    yield from found.items()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _damaged_jpegs(
    read: Callable[[str], bytes | None], found: dict[str, Whole | str], heard: Callable[[], bytes]
) -> dict[str, Whole | str]:
    """Find those of which the library of JPEG says, on the terminal only, that it filled up what is missing."""
    damaged: dict[str, Whole | str] = {}
    for name in found:
        content = b"" if isinstance(found[name], str) else read(name) or b""
        if content.startswith(JPEG):
            _decode(content)
            if _tells_damage(heard()):
                damaged[name] = "is damaged inside"
    return damaged


def _tells_damage(words: bytes) -> bool:
    return any(word in words for word in (b"premature end", b"bad Huffman", b"bad progression", b"instead of RST"))


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_and_decode(read: Callable[[str], bytes | None], name: str) -> Whole | str:
    try:
        return _decode(read(name))
    except OSError as error:
        return error.strerror or str(error)


def _decode(content: bytes | None) -> Whole | str:
    if content is None:
        return "is missing"
    if not content:
        return "is empty"
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is not None:
            return misread(content, image) or Whole((image.shape[0], image.shape[1]), thumbnail(image))
    except cv2.error as error:
        return f"cannot be decoded: {error.err}"
    except MemoryError:
        return "is too large for the memory"
    return _why_not(content)


def _why_not(content: bytes) -> str:
    """Say why OpenCV makes no picture of 8 bits of a file: it is none, damaged, or of a kind that it does not read."""
    plain = decode_as_stored(content)
    if plain is not None and plain.dtype not in (np.uint8, np.uint16):
        return strange_type(plain)
    if plain is None and not is_whole(content) and not _is_read_by_pillow(content):
        return "is damaged or cut off" if _begins_as_picture(content) else "is no picture that OpenCV can read"
    kind = sniff(content[:HEAD]) or "picture"
    return f"is whole, but of a kind of {kind} that OpenCV, which training reads with, does not: convert it"


def _is_read_by_pillow(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception:  # a decoder may raise anything at all
        return False
    return True


def _begins_as_picture(content: bytes) -> bool:
    beginnings = (
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"RIFF",
        b"GIF8",
        b"\0\0\0\x0cjP",
        b"P5",
        b"P6",
    )
    return content.startswith(beginnings)


@contextmanager
def _hearing() -> Iterator[tuple[Callable[[], bytes], IO[str]]]:
    """Keep what OpenCV and its libraries write about damaged pictures off the terminal: the findings say it.

    Yields:
        a function that returns what they wrote since its last call, and what still writes to the terminal.
    """
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        before = os.open(os.devnull, os.O_WRONLY)
    with tempfile.TemporaryFile() as written, open(os.dup(before), "w") as terminal:
        place = 0

        def heard() -> bytes:
            nonlocal place
            words = os.pread(written.fileno(), 1 << 20, place) if hasattr(os, "pread") else b""
            place = os.fstat(written.fileno()).st_size
            return words

        os.dup2(written.fileno(), 2)
        try:
            yield heard, terminal
        finally:
            os.dup2(before, 2)
            os.close(before)
            cv2.utils.logging.setLogLevel(level)
