"""What is done of a video: segments in a folder beside the result, so that an interrupted run goes on behind them.

A segment is a whole file, of the encoded frames with their times, in a container that keeps every time exactly: NUT, or
QuickTime for codecs that NUT does not know, such as ProRes.
`state.json` lists them; it says too what they were made of and how, and a run for which that differs starts anew.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from typing import Any

from esc_arch.common.errors import UserError, printable
from esc_arch.common.lock import Lock
from esc_arch.common.whole_files import cannot_write, replacing
from esc_arch.upscale.video.clip import Shot, pyav
from esc_arch.upscale.video.colours import to_frame
from esc_arch.upscale.video.encoding import Encoding

FRAMES = 120  # of a segment, which is what a kill costs at most
KINDS = ("nut", "mov")  # of segments, in the order in which they are tried
_OWN = re.compile(rf"(\d{{6}}|unfinished)\.({'|'.join(KINDS)})|state\.json")
FOLDER, STATE, UNFINISHED = ".parts", "state.json", "unfinished"


@dataclass(frozen=True)
class Part:
    """A segment.

    Attributes:
        file: its path, or its name within the folder.
        frames: how many it holds.
        start: when the first one is shown. The container may have moved all of them.
    """

    file: str
    frames: int
    start: int


class Segments:
    """The segments of one video; as a context, locked against other runs.

    Args:
        target: the file that they will be joined to.
        encoding: of the frames.
        made_of: what the frames come from and how they are enlarged, as JSON has it.
    """

    def __init__(self, target: str, encoding: Encoding, made_of: dict[str, Any]) -> None:
        self.folder = target + FOLDER
        self._encoding, self._made_of = encoding, json.loads(json.dumps(made_of))
        self._kind = kind_for(encoding)
        self._parts: list[Part] = []
        self._lock = Lock(os.path.join(self.folder, "lock"))
        self.starts_anew = False

    def __enter__(self) -> Segments:
        try:
            os.makedirs(self.folder, exist_ok=True)
            if holder := self._lock.take():
                raise UserError(
                    f"{printable(self.folder)} is being written by {holder}; wait for it, or choose another -o."
                )
            self._read()
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        with suppress(OSError):  # where nothing was written
            os.rmdir(self.folder)

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return sum(part.frames for part in self._parts)

    @property
    def parts(self) -> list[Part]:
        """The segments, in order."""
        return [replace(part, file=os.path.join(self.folder, part.file)) for part in self._parts]

    def write(self, shots: Iterator[Shot]) -> Generator[Shot, None, None]:
        """Write frames, segment by segment, and yield each when it is encoded.

        Stopped in between, by a signal or a mistake, what was encoded is kept.

        Raises:
            DiskError, UserError: it cannot be written.
        """
        waiting = next(shots, None)
        while waiting is not None:
            with self._segment() as segment:
                count = 0
                while waiting is not None and count < FRAMES:
                    segment.add(waiting)
                    count += 1
                    yield waiting
                    waiting = next(shots, None)

    def remove(self) -> None:
        """Remove all segments, and nothing else that somebody may have put there."""
        for name in os.listdir(self.folder):
            if _OWN.fullmatch(name):
                os.remove(os.path.join(self.folder, name))

    @contextmanager
    def _segment(self) -> Iterator[_Segment]:
        unfinished = os.path.join(self.folder, f"{UNFINISHED}.{self._kind}")
        try:
            segment = _Segment(unfinished, self._kind, self._encoding)
            try:
                yield segment
            finally:
                segment.end()
                if segment.frames:
                    part = Part(f"{len(self._parts):06}.{self._kind}", segment.frames, segment.start)
                    os.replace(unfinished, os.path.join(self.folder, part.file))
                    self._parts.append(part)
                    self._write_state()
        except OSError as error:
            raise cannot_write(unfinished, error) from error

    def _write_state(self) -> None:
        with replacing(os.path.join(self.folder, STATE)) as stream:
            stream.write(
                json.dumps({"made of": self._made_of, "segments": [astuple(part) for part in self._parts]}).encode()
            )

    def _read(self) -> None:
        state = os.path.join(self.folder, STATE)
        with suppress(OSError, ValueError, KeyError, TypeError):
            with open(state, encoding="utf-8") as stream:
                found = json.load(stream)
            parts = [Part(*part) for part in found["segments"]]
            are_there = all(os.path.isfile(os.path.join(self.folder, part.file)) for part in parts)
            if found["made of"] == self._made_of and are_there:
                self._parts = parts
                return
        self.starts_anew = os.path.exists(state)
        self.remove()


def kind_for(encoding: Encoding) -> str:
    """Return the first of KINDS that takes the codec.

    Raises:
        UserError: none does.
    """
    codec = pyav().codec.Codec(encoding.codec, "w").canonical_name
    for kind in KINDS:
        with pyav().open(io.BytesIO(), "w", format=kind) as output:
            if codec in output.supported_codecs:
                return kind
    raise UserError(f"--codec: {encoding.codec} cannot be written in segments; take another.")


class _Segment:
    """A segment that is being written."""

    def __init__(self, file: str, kind: str, encoding: Encoding) -> None:
        self._encoding = encoding
        self._output = pyav().open(file, "w", format=kind)
        self._stream = encoding.add_to(self._output)
        self.frames = self.start = 0

    def add(self, shot: Shot) -> None:
        """Encode a frame."""
        frame = to_frame(shot.pixels, self._encoding.layout, self._encoding.colours)
        frame.pts, frame.time_base = shot.start, self._encoding.base
        self._output.mux(self._stream.encode(frame))
        self.start = self.start if self.frames else shot.start
        self.frames += 1

    def end(self) -> None:
        """Encode what the encoder still holds."""
        try:
            if self.frames:
                self._output.mux(self._stream.encode(None))
        finally:
            self._output.close()
