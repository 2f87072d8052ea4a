"""Enlarging videos as the command does: what to make of what, going on after an interruption, and what is told."""

from __future__ import annotations

import glob
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import DiskError, sweep, try_folder
from esc_arch.upscale.batch import LONGEST_LABEL, duration
from esc_arch.upscale.memory import free_memory
from esc_arch.upscale.overlap import Channel, in_thread
from esc_arch.upscale.reaching import Networks, bytes_needed, enlarge_to, stages, target_of
from esc_arch.upscale.sizes import Size, factor_of
from esc_arch.upscale.video.clip import SUFFIXES, Clip, Shot, pyav
from esc_arch.upscale.video.encoding import CONTAINERS, Encoding, container_of, encoding_of
from esc_arch.upscale.video.joining import carried, join, try_out
from esc_arch.upscale.video.segments import Segments
from esc_arch.upscale.work import DEFAULT_SCALE
from esc_arch.version import __version__
from esc_arch.weights.loading import weights_file

INSTEAD = ".mkv"  # for containers that are only read
AHEAD, AHEAD_BYTES = 2, 256 * 2**20  # frames that are decoded before they are needed
COPIES = 3  # of the result: enlarged, as planes, encoded
PATIENCE = 10.0  # seconds that the thread that decodes gets to come to an end


@dataclass(frozen=True)
class VideoSettings:
    """How videos are enlarged and written.

    Args:
        size: of the results.
        codec: name of an encoder, None for the usual one of the container.
        crf: its quality, None for the usual one.
        tile: side of a tile, None to choose it.
        overwrite: make results anew that are there already.
        max_pixels: of the largest frame that is read.
        metadata: keep titles, dates and the like.
        further: all else that changes the result, to know whether an interrupted run can go on.
    """

    size: Size = field(default_factory=Size)
    codec: str | None = None
    crf: int | None = None
    tile: int | None = None
    overwrite: bool = False
    max_pixels: int = 100_000_000
    metadata: bool = True
    further: tuple[object, ...] = ()


@dataclass
class VideoSummary:
    """What became of the videos."""

    done: int = 0
    frames: int = 0
    there: int = 0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        videos = f"{self.done} video{'s' if self.done != 1 else ''} enlarged ({self.frames} frames)"
        there = [f"{self.there} there already (--overwrite makes them anew)"] if self.there else []
        failed = [f"{len(self.failed)} mistake{'s' if len(self.failed) != 1 else ''}"] if self.failed else []
        return ", ".join([videos, *there, *failed])

    def note(self, message: str) -> None:
        """Add a mistake, and tell it."""
        self.failed.append(message)
        tqdm.write(f"Error: {message}", file=sys.stderr)


def videos_among(inputs: Sequence[str]) -> list[str]:
    """Return the inputs that are videos, by their suffixes; folders, and what is in them, are not.

    Raises:
        UserError: there are other inputs beside them.
    """
    named = [name for name in inputs if name.lower().endswith(SUFFIXES) and not os.path.isdir(name)]
    if not named:
        return []
    if others := [name for name in inputs if name not in named]:
        raise UserError(f"{printable(named[0])} is a video and {printable(others[0])} is not; enlarge them one by one.")
    found = []
    for name in named:
        matches = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        if not matches:
            raise UserError(f"{printable(name)} does not exist; name a file, or a pattern that fits some.")
        found += matches
    return list({os.path.abspath(name): name for name in found}.values())


def targets_of(videos: Sequence[str], output: str, suffix: str) -> dict[str, str]:
    """Name the results.

    Returns:
        the files to write, by videos.

    Raises:
        UserError: a result would be written over its source or another result, or has no suffix of a video.
    """
    if os.path.splitext(output)[1] and not os.path.isdir(output) and not output.endswith(os.sep):
        container_of(output)
        if len(videos) > 1:
            raise UserError(f"-o: {printable(output)} is one file, and there are {len(videos)} videos; name a folder.")
        found = {videos[0]: output}
    else:
        names = {video: os.path.splitext(os.path.basename(video)) for video in videos}
        kinds = {video: kind if kind.lower() in CONTAINERS else INSTEAD for video, (_, kind) in names.items()}
        found = {video: os.path.join(output, names[video][0] + suffix + kinds[video]) for video in videos}
    owners: dict[str, str] = {}
    for video, target in found.items():
        if os.path.realpath(target) == os.path.realpath(video):
            raise UserError(f"{printable(video)} would be written over itself; give a --suffix or another -o.")
        if owners.setdefault(target, video) != video:
            raise UserError(
                f"{printable(video)} and {printable(owners[target])} would both become {printable(target)}."
            )
    return found


def enlarge_videos(
    targets: dict[str, str], networks: Networks, settings: VideoSettings, tell: Callable[[str], object] | None = None
) -> VideoSummary:
    """Enlarge videos; name those that cannot be, and go on. A disk that takes nothing more ends it.

    Args:
        targets: files to write, by videos.
        networks: what enlarges.
        settings: how.
        tell: what to do with a line about each video that is done.

    Raises:
        UserError: PyAV is not installed, or the folder of the results cannot be written.
    """
    pyav()
    summary = VideoSummary()
    for folder in {os.path.dirname(target) or "." for target in targets.values()}:
        try_folder(folder)
        sweep(folder)
    for video, target in targets.items():
        if os.path.exists(target) and not settings.overwrite:
            summary.there += 1
            continue
        try:
            start = time.monotonic()
            clip, frames = _enlarge(video, target, networks, settings, summary)
            summary.done, summary.frames = summary.done + 1, summary.frames + frames
            if tell:
                taken = time.monotonic() - start
                tell(f"{printable(video)}: {frames} frames of {clip.sides[1]} x {clip.sides[0]} in {duration(taken)}")
        except DiskError:
            raise
        except (UserError, RuntimeError, OSError, MemoryError, pyav().error.FFmpegError) as error:
            text = str(error).partition("\n")[0] or type(error).__name__
            summary.note(text if printable(video) in text else f"{printable(video)}: {text}")
    return summary


def _enlarge(
    video: str, target: str, networks: Networks, settings: VideoSettings, summary: VideoSummary
) -> tuple[Clip, int]:
    container_of(target)
    clip = Clip.of(video)
    if clip.sides[0] * clip.sides[1] > settings.max_pixels:
        raise UserError(f"{printable(video)}: its frames have more than {settings.max_pixels} pixels (--max-pixels).")
    size = settings.size
    enlarger = networks.reaching(factor_of(clip.sides, size.of(*clip.sides)) if size.is_given else DEFAULT_SCALE)
    encoding, notes = encoding_of(clip, target, target_of(enlarger, size, clip.sides), settings.codec, settings.crf)
    stages(enlarger, clip.sides, encoding.sides)
    kept, lost = carried(clip, encoding)
    try_out(clip, encoding, kept, settings.metadata)
    made_of = _made_of(clip, networks, settings, encoding)
    with Segments(target, encoding, made_of) as segments:
        if segments.frames:
            notes = [f"goes on behind {segments.frames} frames, which are in {segments.folder}"]
        else:
            anew = ["starts anew, since the video or the settings are others than those of the interrupted run"]
            notes = [*clip.notes, *notes, *lost, *(anew if segments.starts_anew else [])]
        for note in notes:
            tqdm.write(f"Note: {printable(video)}: {printable(note)}", file=sys.stderr)
        told = 0

        def tell_broken() -> None:
            nonlocal told
            while told < len(clip.broken):
                summary.note(f"{printable(video)}: {clip.broken[told]}")
                told += 1

        label = printable(os.path.basename(video))[:LONGEST_LABEL]
        with tqdm(total=len(clip.times.starts), initial=segments.frames, unit="frame", disable=None, desc=label) as bar:
            shots = _ahead(clip.shots(segments.frames))
            with closing(segments.write(_enlarged(shots, networks, enlarger, encoding, settings))) as written:
                for _ in written:
                    bar.update()
                    tell_broken()
            tell_broken()
        if not segments.frames:
            raise UserError(f"{printable(video)}: no frame of it can be decoded.")
        join(clip, encoding, segments.parts, kept, target, settings.metadata)
        segments.remove()
        return clip, segments.frames


def _enlarged(
    shots: Iterator[Shot], networks: Networks, enlarger: Any, encoding: Encoding, settings: VideoSettings
) -> Iterator[Shot]:
    for shot in shots:
        needed = bytes_needed(enlarger, shot.pixels, encoding.sides, COPIES)
        if needed > (free := free_memory()):
            raise UserError(
                f"a frame takes {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free; make it smaller"
            )
        yield Shot(shot.start, enlarge_to(shot.pixels, enlarger, encoding.sides, settings.tile))


def _ahead(shots: Iterator[Shot]) -> Iterator[Shot]:
    """Decode in a thread, a few frames before they are needed."""
    channel: Channel[Shot] = Channel(AHEAD, AHEAD_BYTES)
    crash: list[BaseException] = []

    def decode() -> None:
        try:
            while channel.wait_for_room() and (shot := next(shots, None)) is not None:
                channel.put(shot, shot.pixels.nbytes)
        except BaseException as error:
            crash.append(error)
        finally:
            channel.end()

    thread = in_thread(decode, "decoder")
    try:
        while (shot := channel.get()) is not None:
            yield shot
        if crash:
            raise crash[0]
    finally:
        channel.close()
        thread.join(PATIENCE)


def _made_of(clip: Clip, networks: Networks, settings: VideoSettings, encoding: Encoding) -> dict[str, Any]:
    """Say what the frames of the result depend on."""
    source = os.stat(clip.file)
    weights = weights_file(networks.name_reaching(factor_of(clip.sides, encoding.sides)))
    return {
        "source": [os.path.basename(clip.file), source.st_size, source.st_mtime_ns],
        "weights": [os.path.basename(weights), os.path.getsize(weights), os.stat(weights).st_mtime_ns],
        "settings": [asdict(settings.size), settings.tile, *settings.further],
        "encoding": repr(encoding),
        "versions": [__version__, pyav().__version__],
    }
