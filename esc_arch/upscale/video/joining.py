"""Joining segments to a file, with everything else that the source holds, packets as they are."""

from __future__ import annotations

import heapq
import io
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import temporary_name
from esc_arch.upscale.video.clip import Clip, opened, pyav, video_stream
from esc_arch.upscale.video.encoding import Encoding
from esc_arch.upscale.video.segments import Part

OWN_METADATA = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "bps", "number_of_")
TIMECODE = "timecode"  # metadata of the video, and in these containers a stream beside it, too
COVERS = ("mp4", "mov")  # containers that hold the picture of a cover as a stream
# Languages have two names in ISO 639-2, and FFmpeg writes these into .mov by the other one alone
_FIRST = "sqi hye eus mya zho cze nld fre kat deu ell isl mkd msa fas rum slo bod cym swe"
_SECOND = "alb arm baq bur chi ces dut fra geo ger gre ice mac may per ron slk tib wel sve"
IN_QUICKTIME = dict(zip(_FIRST.split(), _SECOND.split(), strict=True))
OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}}


def carried(clip: Clip, encoding: Encoding) -> tuple[list[int], list[str]]:
    """Find which other streams of a video the container of the result holds.

    Returns:
        their indices, and what has to be told about the others.
    """
    kept, lost = [], []
    with opened(clip.file) as source:
        video = video_stream(source, clip.file)
        for stream in source.streams:
            if stream.index == video.index:
                codes = {*_timecodes(stream.metadata).values(), *_timecodes(source.metadata).values()}
                lost += [f"its timecode {printable(code)}" for code in sorted(codes) if not _counts(encoding, code)]
                continue
            if stream.type == "data" and _timecodes(stream.metadata) and encoding.container in COVERS:
                continue  # it is written anew for the video
            if _holds(encoding.container, stream):
                kept.append(stream.index)
            else:
                lost.append(_name(stream))
    notes = [f"{encoding.container} does not hold {', '.join(lost)}"] if lost else []
    if encoding.container in ("matroska", "webm") and (1000 * clip.times.base).denominator > 1:
        off = [start for start in clip.times.starts if (1000 * start * clip.times.base).denominator > 1]
        if off:
            notes.append(f"{encoding.container} rounds times to milliseconds; an .mp4 keeps them")
    return kept, notes


def join(
    clip: Clip, encoding: Encoding, segments: list[Part], kept: list[int], file: str, metadata: bool = True
) -> None:
    """Write the segments and the other streams into one file, which takes its name when it is whole.

    Args:
        clip: the source.
        encoding: of the segments.
        segments: in order.
        kept: indices of the streams of the source that are copied.
        file: of the result.
        metadata: copy titles, dates, chapters and the like.

    Raises:
        DiskError, UserError: it cannot be written.
    """
    av = pyav()
    with (
        opened(clip.file) as source,
        temporary_name(file) as path,
        av.open(path, "w", format=encoding.container, options=OPTIONS.get(encoding.container, {})) as output,
    ):
        video, places = _laid_out(
            output, source, clip, encoding, kept, metadata, lambda: _video(output, segments[0].file, encoding)
        )
        others = _others(source, {index: place for index, place in places.items() if place is not None})
        for _, _, packet in heapq.merge(
            _frames(clip, segments, video, encoding.base), others, key=lambda item: item[:2]
        ):
            output.mux(packet)


def try_out(clip: Clip, encoding: Encoding, kept: list[int], metadata: bool = True) -> None:
    """Try whether a container takes all that will be joined, before anything is computed.

    Raises:
        UserError: it does not.
    """
    try:
        with opened(clip.file) as source, pyav().open(io.BytesIO(), "w", format=encoding.container) as output:
            _laid_out(output, source, clip, encoding, kept, metadata, lambda: encoding.add_to(output))
            output.start_encoding()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{printable(clip.file)}: {encoding.container} does not take its streams together ({reason}); choose "
            "another suffix, or --metadata none."
        ) from error


def _laid_out(
    output: Any,
    source: Any,
    clip: Clip,
    encoding: Encoding,
    kept: list[int],
    metadata: bool,
    add_video: Callable[[], Any],
) -> tuple[Any, dict[int, Any]]:
    """Add all streams, and what describes them; return that of the video, and the others by their indices."""
    original = video_stream(source, clip.file)
    video, places = None, {}
    for stream in source.streams:  # in their order
        if stream.index == original.index:
            video = add_video()
            _copy_description(stream, video, encoding.container, metadata)
        elif stream.index in kept:
            places[stream.index] = _copied(output, stream, encoding.container, metadata)
    if metadata:
        output.metadata.update(_theirs(source.metadata))
        output.set_chapters(source.chapters())
    assert video is not None
    for described in (video.metadata, output.metadata):
        for name, code in _timecodes(described).items():
            if not _counts(encoding, code):
                del described[name]
    return video, places


def _video(output: Any, segment: str, encoding: Encoding) -> Any:
    with pyav().open(segment) as first:
        stream = output.add_stream_from_template(first.streams.video[0], opaque=True)  # else by the name of its decoder
    stream.time_base = encoding.base
    stream.codec_context.framerate = encoding.rate  # by which timecodes count
    if encoding.codec == "libx265" and encoding.container in ("mp4", "mov"):
        stream.codec_tag = "hvc1"  # the one of the two that all players know
    return stream


def _frames(clip: Clip, segments: list[Part], stream: Any, base: Fraction) -> Iterator[tuple[Fraction, int, Any]]:
    """Yield the packets of the frames, with times of decoding that go on from segment to segment."""
    lengths = dict(zip(clip.times.starts, clip.times.durations, strict=True))
    starts = [start for part in segments for start in _starts(part, base)]
    shown = sorted(starts)
    place = {start: index for index, start in enumerate(shown)}
    delay = max(index - place[start] for index, start in enumerate(starts))
    for number, packet in enumerate(packet for part in segments for packet in _packets(part)):
        packet.pts, early = starts[number], number - delay
        packet.dts = shown[early] if early >= 0 else shown[0] + early
        packet.duration = lengths.get(packet.pts, 0)
        packet.time_base, packet.stream = base, stream
        yield packet.dts * base, 0, packet


def _packets(part: Part) -> Iterator[Any]:
    with pyav().open(part.file) as segment:
        yield from (packet for packet in segment.demux(video=0) if packet.size)


def _starts(part: Part, base: Fraction) -> list[int]:
    """Read when the frames of a segment are shown, in the order of its packets."""
    found = [round(packet.pts * packet.time_base / base) for packet in _packets(part)]
    if len(found) != part.frames or len(set(found)) != len(found):
        raise UserError(
            f"{printable(part.file)} is damaged; remove {printable(os.path.dirname(part.file))}, and run again."
        )
    moved = min(found) - part.start
    return [start - moved for start in found]


def _others(source: Any, places: dict[int, Any]) -> Iterator[tuple[Fraction, int, Any]]:
    """Yield the packets of other streams as they are."""
    streams = [stream for stream in source.streams if stream.index in places]
    when = Fraction(0)
    for packet in source.demux(*streams) if streams else ():
        if _is_cover(packet.stream) and packet.size:
            packet.pts = packet.dts = 0  # it has none
        time = packet.pts if packet.dts is None else packet.dts
        if packet.size and time is not None:
            when = max(when, time * packet.time_base)
            packet.stream = places[packet.stream.index]
            yield when, 1, packet


def _copied(output: Any, stream: Any, container: str, metadata: bool = True) -> Any:
    if stream.type == "attachment":
        output.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
        return None
    copy = output.add_stream_from_template(stream, opaque=True)
    _copy_description(stream, copy, container, metadata)
    return copy


def _theirs(metadata: dict[str, str]) -> dict[str, str]:
    """Return what stays true of a file of other bytes."""
    return {
        name: text for name, text in metadata.items() if not name.lower().startswith((*OWN_METADATA, "_statistics"))
    }


def _copy_description(stream: Any, copy: Any, container: str, metadata: bool) -> None:
    language = stream.metadata.get("language")
    if container == "mov":
        language = IN_QUICKTIME.get(language, language)
    copy.metadata.update(
        {**(_theirs(stream.metadata) if metadata else {}), **({"language": language} if language else {})}
    )
    copy.disposition = stream.disposition


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & pyav().stream.Disposition.attached_pic)


def _timecodes(metadata: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in metadata.items() if name.lower() == TIMECODE}


def _counts(encoding: Encoding, code: str) -> bool:
    """Try whether a container takes a timecode, which does not go with every number of frames a second."""
    if encoding.container not in COVERS:
        return True
    tried = io.BytesIO()
    try:
        with pyav().open(tried, "w", format=encoding.container) as output:
            encoding.add_to(output).metadata[TIMECODE] = code
            output.start_encoding()
    except (OSError, ValueError, RuntimeError):
        return False
    return b"tmcd" in tried.getvalue()  # some are passed over without a word


def _holds(container: str, stream: Any) -> bool:
    """Try whether a container takes a stream, and as what it is."""
    av = pyav()
    if _is_cover(stream) and container not in COVERS:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as output:
            _copied(output, stream, container)
            if stream.type == "attachment":
                return container == "matroska"
            output.start_encoding()
    except (OSError, ValueError, RuntimeError, AttributeError, TypeError):
        return False
    return True


def _name(stream: Any) -> str:
    context = getattr(stream, "codec_context", None)
    codec = context.codec.canonical_name if context else getattr(stream, "name", None)
    language = f", {printable(stream.language)}" if getattr(stream, "language", None) else ""
    kind = "cover" if _is_cover(stream) else stream.type
    return f"{kind} {stream.index} ({codec or 'unknown'}{language})"
