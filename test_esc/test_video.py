"""Enlarging videos: frames, times, sound, subtitles, shape, and going on after an interruption."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from PIL import Image
from torch import nn

from esc_arch.archs import ESC
from esc_arch.upscale.__main__ import main
from esc_arch.upscale.network import Enlarger
from esc_arch.upscale.reaching import Networks
from esc_arch.upscale.sizes import Size
from esc_arch.upscale.video import clip as clips
from esc_arch.upscale.video import joining, segments
from esc_arch.upscale.video.clip import Clip
from esc_arch.upscale.video.command import VideoSettings, VideoSummary, enlarge_videos
from esc_arch.upscale.video.joining import IN_QUICKTIME
from esc_arch.weights import write_weights

av = pytest.importorskip("av")

BASE = Fraction(1, 90_000)
SIDES = 32, 48
RNG = np.random.default_rng(0)
SUBTITLES = "1\n00:00:00,100 --> 00:00:00,400\nfirst\n\n2\n00:00:00,500 --> 00:00:00,900\nsecond\n"


class Repeat(nn.Module):
    """Repeats every pixel, so that the result is known."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale, self.calls = scale, 0
        self.before: Callable[[], object] = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.before()
        self.calls += 1
        return x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


def enlarge(
    file: Path, target: Path, network: nn.Module | None = None, scale: int = 2, **settings: Any
) -> VideoSummary:
    weights = file.parent / "weights"
    if not weights.exists():  # a newer one would be another
        weights.touch()
    chosen = network or Repeat(scale)
    networks = Networks(str(weights), lambda name: Enlarger(chosen, scale))
    return enlarge_videos({str(file): str(target)}, networks, VideoSettings(**{"crf": 1, **settings}))


def level(number: int) -> int:
    return 20 + 5 * number


def make(
    file: Path,
    starts: list[int],
    *,
    layout: str = "yuv420p",
    sound: bool = True,
    subtitles: bool = False,
    turn: int = 0,
    aspect: Fraction | None = None,
    planes: Callable[[int, Any], list[Any]] | None = None,
    tags: tuple[int, int] = (1, 1),
    sides: tuple[int, int] = SIDES,
    **options: str,
) -> None:
    """Make a clip of which every frame has its number as the level of its luma."""
    with av.open(str(file), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"qp": "0", **options})
        video.height, video.width, video.pix_fmt = *sides, layout
        context = video.codec_context
        context.time_base, context.colorspace, context.color_range = BASE, *tags
        if aspect:
            context.sample_aspect_ratio = aspect
        if turn:
            video.set_display_rotation(turn)
        audio = output.add_stream("aac", rate=48_000, layout="stereo") if sound else None
        texts = None
        if subtitles:
            file.with_suffix(".srt").write_text(SUBTITLES)
            texts = av.open(str(file.with_suffix(".srt")))
            written = output.add_stream_from_template(texts.streams.subtitles[0])
            written.metadata["language"] = "deu"
        for number, start in enumerate(starts):
            output.mux(video.encode(frame_of(number, layout, sides, start, planes)))
        output.mux(video.encode(None))
        for number in range(30 if audio else 0):
            samples = (RNG.standard_normal((2, 1024)) / 10).astype(np.float32)
            sounds = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            sounds.rate, sounds.pts, sounds.time_base = 48_000, 1024 * number, Fraction(1, 48_000)
            output.mux(audio.encode(sounds))
        if audio:
            output.mux(audio.encode(None))
        for packet in texts.demux() if texts else ():
            if packet.size:
                packet.stream = written
                output.mux(packet)


def frame_of(number: int, layout: str, sides: tuple[int, int], start: int, planes: Any) -> Any:
    frame = av.VideoFrame(sides[1], sides[0], layout)
    deep = frame.format.components[0].bits > 8
    unit = 2 ** (frame.format.components[0].bits - 8)
    values = planes(number, frame) if planes else [level(number) * unit, 128 * unit, 128 * unit]
    for plane, value in zip(frame.planes, values, strict=False):
        rows = np.zeros((plane.height, plane.line_size // (2 if deep else 1)), "<u2" if deep else np.uint8)
        rows[:, : plane.width] = value
        plane.update(rows.tobytes())
    frame.pts, frame.time_base = start, BASE
    return frame


def planes_of(frame: Any) -> list[Any]:
    kind = "<u2" if frame.format.components[0].bits > 8 else np.uint8
    return [
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(int) for plane in frame.planes
    ]


def frames_of(file: Path) -> list[Any]:
    with av.open(str(file)) as container:
        return list(container.decode(video=0))


def times_of(file: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames_of(file)]


def packets_of(file: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(file)) as container:
        packets = container.demux(**{kind: 0})
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.size]


EVEN = [3600 * number for number in range(20)]
UNEVEN = [3600 * number + 37 * number**2 for number in range(40)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_times_and_sound(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and exact, over several segments with frames that are stored out of order."""
    monkeypatch.setattr(segments, "FRAMES", 15)
    source, target = tmp_path / "a.mp4", tmp_path / f"b{suffix}"
    make(source, UNEVEN, aspect=Fraction(4, 3), bf="3")
    summary = enlarge(source, target)
    assert str(summary) == "1 video enlarged (40 frames)"
    frames = frames_of(target)
    assert times_of(target) == [start * BASE for start in UNEVEN]
    for number, frame in enumerate(frames):
        assert (frame.height, frame.width) == (64, 96)
        assert np.abs(planes_of(frame)[0] - level(number)).max() <= 2
    assert packets_of(target, "audio") == packets_of(source, "audio")
    with av.open(str(target)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert container.streams.video[0].codec_context.name == "h264"
        last = [packet for packet in container.demux(video=0) if packet.size]
        assert max(packet.pts + packet.duration for packet in last) * last[0].time_base == (UNEVEN[-1] + 3600) * BASE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", target.name, "weights"]


def test_subtitles_are_kept_where_the_container_holds_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.mkv"
    make(source, EVEN, subtitles=True)
    enlarge(source, tmp_path / "b.mkv")
    assert "Note" not in capsys.readouterr().err
    for kind in ("audio", "subtitles"):
        assert packets_of(tmp_path / "b.mkv", kind) == packets_of(source, kind)
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.subtitles[0].language == "deu"
    enlarge(source, tmp_path / "b.mp4")
    told = capsys.readouterr().err
    assert "Note: " in told
    assert "mp4 does not hold subtitle 2 (subrip, deu)" in told
    assert packets_of(tmp_path / "b.mp4", "audio") == packets_of(source, "audio")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert not container.streams.subtitles


@pytest.mark.parametrize("metadata", [True, False])
def test_languages_are_kept_by_one_of_their_names(tmp_path: Path, metadata: bool) -> None:
    """FFmpeg knows many by one of two names alone when it writes a .mov."""
    names = ["eng", *IN_QUICKTIME, *IN_QUICKTIME.values()]
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = *SIDES, "yuv420p"
        sounds = [output.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in names]
        for name, sound in zip(names, sounds, strict=True):
            sound.metadata["language"] = name
        output.mux([*video.encode(frame_of(0, "yuv420p", SIDES, 0, None)), *video.encode(None)])
        for sound in sounds:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
            silence.rate, silence.pts = 8000, 0
            output.mux([*sound.encode(silence), *sound.encode(None)])
    for target, expected in (("b.mov", [IN_QUICKTIME.get(name, name) for name in names]), ("b.mkv", names)):
        assert not enlarge(source, tmp_path / target, metadata=metadata).failed
        with av.open(str(tmp_path / target)) as container:
            assert [sound.metadata.get("language") for sound in container.streams.audio] == expected


@pytest.mark.parametrize(
    ("name", "of_all", "code", "kept"),
    [
        ("a.mov", False, "01:00:00:00", True),  # as cameras write it: a stream of its own beside the video
        ("a.mp4", False, "23:59:59:12", True),
        ("a.mkv", False, "01:00:00:00", True),
        ("a.mkv", True, "01:00:00:00", True),
        ("a.mkv", False, "01:00:00;00", False),  # drops frames, which is for 29.97 a second
        ("a.mkv", True, "no time", False),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_timecodes_are_kept(
    tmp_path: Path, name: str, of_all: bool, code: str, kept: bool, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not go is told before anything is computed: a container would refuse it at the end."""
    source, target = tmp_path / name, tmp_path / f"b{suffix}"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = *SIDES, "yuv420p"
        (output if of_all else video).metadata["timecode"] = code
        for number in range(3):
            output.mux(video.encode(frame_of(number, "yuv420p", SIDES, 3600 * number, None)))
        output.mux(video.encode(None))
    assert not enlarge(source, target).failed
    told = capsys.readouterr().err
    assert ("Note" not in told) if kept else f"does not hold its timecode {code}" in told
    with av.open(str(target)) as container:
        codes = [stream.metadata.get("timecode") for stream in container.streams]
    assert codes == ([code, code] if kept else [None])


def test_what_a_container_refuses_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stream alone may go, and all together not."""
    source, network = tmp_path / "a.mkv", Repeat()
    make(source, EVEN, subtitles=True)
    monkeypatch.setattr(joining, "_holds", lambda container, stream: True)
    failed = enlarge(source, tmp_path / "b.mp4", network).failed
    assert "mp4 does not take its streams together" in failed[0]
    assert network.calls == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "a.srt", "weights"]


def test_covers_are_kept_as_covers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, picture = tmp_path / "a.mp4", tmp_path / "cover.jpg"
    make(tmp_path / "bare.mp4", EVEN[:5])
    Image.new("RGB", (64, 64), "red").save(picture)
    with av.open(str(tmp_path / "bare.mp4")) as bare, av.open(str(picture)) as art, av.open(str(source), "w") as output:
        streams = {stream: output.add_stream_from_template(stream) for stream in bare.streams}
        cover = output.add_stream_from_template(art.streams.video[0], opaque=True)
        cover.disposition = av.stream.Disposition.attached_pic
        for container in (art, bare):
            for packet in container.demux():
                if packet.size:
                    packet.stream = streams.get(packet.stream, cover)
                    output.mux(packet)
    enlarge(source, tmp_path / "b.mp4")
    assert "Note" not in capsys.readouterr().err
    with av.open(str(tmp_path / "b.mp4")) as container:
        video, cover = container.streams.video
        assert (video.width, cover.width) == (96, 64)
        assert cover.disposition & av.stream.Disposition.attached_pic
    enlarge(source, tmp_path / "b.mkv")
    assert "matroska does not hold cover 2 (mjpeg)" in capsys.readouterr().err
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert len(container.streams.video) == 1


def test_titles_dates_and_chapters_are_kept_on_request(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    make(tmp_path / "bare.mkv", EVEN[:5], sound=False)
    chapter = {"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
    date = "2020-02-03T04:05:06.000000Z"
    with av.open(str(tmp_path / "bare.mkv")) as bare, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(bare.streams.video[0])
        stream.metadata.update({"title": "view", "BPS": "12345"})
        output.metadata.update({"title": "walk", "creation_time": date})
        output.set_chapters([chapter])
        for packet in bare.demux():
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    for name in ("b.mkv", "b.mp4"):
        enlarge(source, tmp_path / name)
        with av.open(str(tmp_path / name)) as container:
            assert (container.metadata["title"], container.metadata["creation_time"]) == ("walk", date)
            assert [found["metadata"]["title"] for found in container.chapters()] == ["one"]
            assert "BPS" not in container.streams.video[0].metadata
    enlarge(source, tmp_path / "c.mkv", metadata=False)
    with av.open(str(tmp_path / "c.mkv")) as container:
        assert not {"title", "creation_time"} & set(container.metadata)
        assert not container.chapters()


def test_times_that_a_container_rounds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.mp4"
    make(source, UNEVEN[:8], sound=False)
    enlarge(source, tmp_path / "b.mkv")
    assert "matroska rounds times to milliseconds" in capsys.readouterr().err
    wanted = [round(1000 * start * BASE) for start in UNEVEN[:8]]
    assert [round(1000 * time) for time in times_of(tmp_path / "b.mkv")] == wanted


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_videos_become_upright(tmp_path: Path, turn: int) -> None:
    def corner(number: int, frame: Any) -> list[Any]:
        luma = np.full(SIDES, 60)
        luma[:16, :16] = 200  # above, on the left
        return [luma, 128, 128]

    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN[:3], sound=False, turn=turn, planes=corner)
    (before,) = {frame.rotation for frame in frames_of(source)}
    enlarge(source, target)
    result = frames_of(target)[1]
    assert result.rotation == 0
    expected = np.rot90(planes_of(frames_of(source)[1])[0], before // 90)  # as FFmpeg has it: counterclockwise
    expected = expected.repeat(2, 0).repeat(2, 1)
    assert planes_of(result)[0].shape == expected.shape
    assert np.abs(planes_of(result)[0] - expected).max() <= 4


def test_ten_bits_stay_ten(tmp_path: Path) -> None:
    def ramp(number: int, frame: Any) -> list[Any]:
        return [np.arange(SIDES[0] * SIDES[1]).reshape(SIDES) % 256 + 401, 512, 512]

    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN[:3], sound=False, layout="yuv420p10le", planes=ramp)
    enlarge(source, target)
    result = frames_of(target)[2]
    assert result.format.name == "yuv420p10le"
    expected = planes_of(frames_of(source)[2])[0].repeat(2, 0).repeat(2, 1)
    assert np.abs(planes_of(result)[0] - expected).max() <= 4  # one level of 8 bits
    assert np.abs(planes_of(result)[0] - expected).mean() < 1.5


@pytest.mark.parametrize("tags", [(1, 1), (6, 1), (9, 1), (1, 2), (5, 2)])
def test_colours_keep_matrix_and_range(tmp_path: Path, tags: tuple[int, int]) -> None:
    colours = [(90, 150, 110), (120, 100, 160), (200, 120, 130)]
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN[:3], sound=False, planes=lambda number, frame: list(colours[number]), tags=tags)
    enlarge(source, target)
    for frame, expected in zip(frames_of(target), colours, strict=True):
        assert (int(frame.colorspace), int(frame.color_range)) == tags
        for plane, value in zip(planes_of(frame), expected, strict=True):
            assert np.abs(plane - value).max() <= 2


def test_a_video_that_states_no_matrix_gets_the_one_it_is_shown_with(tmp_path: Path) -> None:
    """Players choose by the size, which is another afterwards."""
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN[:2], sound=False, tags=(2, 0))
    enlarge(source, target)
    assert {int(frame.colorspace) for frame in frames_of(target)} == {6}


def test_sizes_are_even_where_colours_are_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.mp4"
    make(source, EVEN[:2], sound=False)
    enlarge(source, tmp_path / "b.mp4", size=Size(width=75))
    assert {(frame.width, frame.height) for frame in frames_of(tmp_path / "b.mp4")} == {(74, 50)}
    assert "75 x 50 become 74 x 50" in capsys.readouterr().err
    make(source, EVEN[:2], sound=False, layout="yuv444p")
    enlarge(source, tmp_path / "c.mp4", size=Size(width=75))
    assert {(frame.width, frame.height) for frame in frames_of(tmp_path / "c.mp4")} == {(75, 50)}
    assert "become" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "codec", "expected"),
    [
        ("b.webm", None, "vp9"),
        ("b.mkv", "h265", "hevc"),
        ("b.mp4", "libx265", "hevc"),
        ("b.mkv", "ffv1", "ffv1"),
        ("b.mov", "prores_ks", "prores"),  # which the container of other segments does not know
        ("b.mkv", "prores", "prores"),
        ("b.mp4", "av1", "av1"),  # which is decoded by something of another name
        ("b.webm", "libsvtav1", "av1"),
        ("b.mov", "jpeg2000", "jpeg2000"),
    ],
)
def test_codecs(
    tmp_path: Path, name: str, codec: str | None, expected: str, short: None, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.mp4"
    make(source, times := UNEVEN[:10], sound=False)
    capfd.readouterr()
    summary = enlarge(source, tmp_path / name, codec=codec, crf=None)
    assert not summary.failed
    assert "[info]" not in capfd.readouterr().err  # of encoders that tell a page about themselves
    frames = frames_of(tmp_path / name)
    assert len(frames) == 10
    for number, frame in enumerate(frames):
        assert abs(planes_of(frame)[0].mean() / 2 ** (frame.format.components[0].bits - 8) - level(number)) <= 3
    rounded = Fraction(1, 1000) if name.endswith(("mkv", "webm")) else 0
    for found, start in zip(times_of(tmp_path / name), times, strict=True):
        assert abs(found - start * BASE) <= rounded
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == expected
        if expected == "hevc" and name.endswith("mp4"):
            assert container.streams.video[0].codec_tag == "hvc1"


def test_a_broken_frame_is_named_and_the_rest_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN, bf="0", g="5")
    with av.open(str(source)) as container:
        bad = [packet for packet in container.demux(video=0) if packet.size][12]
        place, size = bad.pos, bad.size
    content = bytearray(source.read_bytes())
    content[place : place + size] = bytes(size)
    source.write_bytes(content)
    summary = enlarge(source, target)
    assert len(summary.failed) == 1
    assert f"{source}: frame 12 (counted from 0, 0.480 s after the first) is broken" in capsys.readouterr().err
    assert times_of(target) == [start * BASE for number, start in enumerate(EVEN) if number != 12]
    assert packets_of(target, "audio") == packets_of(source, "audio")


def test_a_rate_that_is_stated_wrong_does_not_matter(tmp_path: Path) -> None:
    """As Matroska has it after some programs; encoders refuse what they are told then."""
    source, target = tmp_path / "a.mkv", tmp_path / "b.webm"
    make(source, EVEN, sound=False)
    assert Clip.of(str(source)).times.rate == 25
    assert clips._rate(Fraction(30_000), [0, 40, 80], Fraction(1, 1000)) == 25
    assert clips._rate(Fraction(30_000, 1001), [0, 33, 67, 100], Fraction(1, 1000)) == Fraction(30_000, 1001)
    assert not enlarge(source, target, codec=None, crf=None).failed
    assert len(frames_of(target)) == 20


@pytest.mark.parametrize(
    ("codec", "layout", "name"),
    [("mpeg4", "yuv420p", "a.avi"), ("mpeg2video", "yuv420p", "a.ts"), ("ffv1", "bgr0", "a.mkv")],
)
def test_other_containers_and_codecs_are_read(tmp_path: Path, codec: str, layout: str, name: str) -> None:
    """Some without times, which follow from the rate then, some that do not begin at zero."""
    source, target = tmp_path / name, tmp_path / "b.mp4"
    with av.open(str(source), "w") as output:
        video = output.add_stream(codec, rate=25, options={"bf": "2", "qscale": "1"} if codec != "ffv1" else {})
        video.height, video.width, video.pix_fmt = *SIDES, layout
        for number in range(10):
            frame = frame_of(number, "yuv420p", SIDES, number, None).reformat(format=layout)
            frame.time_base = Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    before = times_of(source)
    assert not enlarge(source, target).failed
    assert times_of(target) == before
    for one, other in zip(frames_of(target), frames_of(source), strict=True):
        grey, expected = (frame.to_ndarray(format="rgb24").mean() for frame in (one, other))
        assert abs(grey - expected) <= 3


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the decoder does not show it: alpha of VP9 is a stream within the stream."""
    for name, codec, layout, stated in (
        ("alpha.webm", "libvpx-vp9", "yuva420p", {}),
        ("eyes.mkv", "libx264", "yuv420p", {"stereo_mode": "left_right"}),
        ("plain.mkv", "libx264", "yuv420p", {"stereo_mode": "mono"}),
    ):
        with av.open(str(tmp_path / name), "w") as output:
            video = output.add_stream(codec, rate=25)
            video.height, video.width, video.pix_fmt = *SIDES, layout
            video.metadata.update(stated)
            for number in range(3):
                frame = av.VideoFrame.from_ndarray(np.full((*SIDES, 4), 40 * number, np.uint8), format="rgba")
                output.mux(video.encode(frame.reformat(format=layout)))
            output.mux(video.encode(None))
        assert not enlarge(tmp_path / name, tmp_path / f"larger-{name}").failed
    told = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if line.startswith("Note")]
    assert [Path(line.partition(": ")[0]).name for line in told] == ["alpha.webm", "eyes.mkv"]
    assert told[0].endswith("its transparency is left out")
    assert told[1].endswith("left out: that its frames hold pictures for both eyes")


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({}, []),
        ({"SEI_UNREGISTERED": b"x264", "DISPLAYMATRIX": b"", "STEREO3D": bytes(16)}, []),
        ({"CONTENT_LIGHT_LEVEL": b"", "MASTERING_DISPLAY_METADATA": b""}, ["mastering display"]),
        ({"DOVI_METADATA": b"", "DOVI_RPU_BUFFER": b""}, ["Dolby Vision"]),
        ({"A53_CC": b"", "DYNAMIC_HDR_PLUS": b""}, ["HDR10+", "captions"]),
        ({"SPHERICAL": b"", "STEREO3D": b"\2" + bytes(15)}, ["all around", "both eyes"]),
    ],
)
def test_what_frames_state_is_put_into_words(stated: dict[str, bytes], words: list[str]) -> None:
    found = clips.not_carried(stated)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_frames_are_not_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.mp4"
    make(source, EVEN, sound=False)
    decoded = []
    original = clips.to_pixels
    monkeypatch.setattr(clips, "to_pixels", lambda *arguments: (decoded.append(1), original(*arguments))[1])
    network = Repeat()
    ahead: list[int] = []
    network.before = lambda: ahead.append(len(decoded) - network.calls)
    enlarge(source, tmp_path / "b.mp4", network)
    assert len(ahead) == 20
    assert max(ahead) <= 5


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, suffix: str) -> None:
    def noise(number: int, frame: Any) -> list[Any]:
        return [RNG.integers(16, 235, SIDES), 128, 128]

    whole, source, target = tmp_path / f"whole{suffix}", tmp_path / f"a{suffix}", tmp_path / "b.mp4"
    make(tmp_path / "made.mkv", [3600 * number for number in range(60)], planes=noise)
    options = {"movflags": "+faststart"} if suffix == ".mp4" else {}
    with av.open(str(tmp_path / "made.mkv")) as made, av.open(str(whole), "w", options=options) as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in made.streams}
        for packet in made.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    assert not enlarge(whole, target).failed
    target.unlink()
    content = whole.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    failed = enlarge(source, target).failed
    assert "the file states 2.40 s and ends after" in failed[0]
    assert 20 < len(frames_of(target)) < 50


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FRAMES", 6)


def stop_in_between(source: Path, target: Path) -> None:
    """Enlarge nine frames of a video, then be stopped as by Ctrl-C."""
    network = Repeat()

    def stop() -> None:
        if network.calls == 9:
            raise KeyboardInterrupt

    network.before = stop
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, target, network)


def test_stopped_in_between_it_goes_on(tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN)
    stop_in_between(source, target)
    assert not target.exists()
    again = Repeat()
    summary = enlarge(source, target, again)
    assert again.calls == 11  # none is lost where there was time to end a segment
    assert "goes on behind 9 frames" in capsys.readouterr().err
    assert str(summary) == "1 video enlarged (20 frames)"
    assert times_of(target) == [start * BASE for start in EVEN]
    for number, frame in enumerate(frames_of(target)):
        assert np.abs(planes_of(frame)[0] - level(number)).max() <= 2
    assert packets_of(target, "audio") == packets_of(source, "audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "weights"]


def test_other_settings_start_anew(tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    make(source, EVEN, sound=False)
    stop_in_between(source, target)
    again = Repeat()
    (tmp_path / "b.mp4.parts/mine.txt").write_text("of somebody else")
    enlarge(source, target, again, crf=2)
    assert again.calls == 20
    assert os.listdir(tmp_path / "b.mp4.parts") == ["mine.txt"]
    assert "starts anew" in capsys.readouterr().err
    assert len(frames_of(target)) == 20


KILLED = """
import os, signal, sys
from esc_arch.upscale.__main__ import main
from esc_arch.upscale.video import command, segments

segments.FRAMES = 6
original, calls = command.enlarge_to, []

def enlarge(*arguments):
    calls.append(1)
    if len(calls) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

command.enlarge_to = enlarge
main()
"""


def test_killed_it_goes_on(tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "out/a_x2.mp4"
    weights = str(tmp_path / "tiny.safetensors")
    write_weights(weights, randomise(ESC(**TINY)).state_dict())
    make(source, EVEN)
    arguments = [str(source), "-o", str(target.parent), "--weights", weights, "--device", "cpu"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert not target.exists()
    main(arguments)
    told = capsys.readouterr()
    assert "goes on behind 6 frames" in told.err
    assert told.out.startswith("1 video enlarged (20 frames); ")
    assert os.listdir(target.parent) == ["a_x2.mp4"]
    assert times_of(target) == [start * BASE for start in EVEN]
    assert packets_of(target, "audio") == packets_of(source, "audio")
    main(arguments)
    assert "1 there already" in capsys.readouterr().out
    whole = tmp_path / "whole.mp4"
    main([str(source), "-o", str(whole), "--weights", weights, "--device", "cpu"])
    for one, other in zip(frames_of(target), frames_of(whole), strict=True):
        assert np.abs(planes_of(one)[0] - planes_of(other)[0]).mean() < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "a.png", "-o", "o"], "a.mp4 is a video and a.png is not"),
        (["a.png", "-o", "o", "--crf", "3"], "--crf is for videos"),
        (["a.mp4", "-o", "o.mp4", "--quality", "9"], "--quality is for pictures"),
        (["a.mp4", "-o", "-"], "-o: a video needs a file"),
        (["a.mp4", "-o", "o.avi"], "o.avi: the suffix of a video must be one of"),
        (["a.mp4", "-o", "o.png"], "o.png: the suffix of a video must be one of"),
        (["a.mp4", "-o", "o.mp4", "--crf", "60"], "--crf: libx264 takes 0 to 51"),
        (["a.mp4", "-o", "o.mkv", "--codec", "ffv1", "--crf", "3"], "--crf: ffv1 has no such quality"),
        (["a.mp4", "-o", "o.mp4", "--codec", "h265", "--size", "60x"], "libx265 takes frames of at least 64 pixels"),
        (["a.mp4", "-o", "o.mp4", "--codec", "none"], "--codec: none is no encoder"),
        (["a.mp4", "-o", "o.mp4", "--codec", ""], "--codec: an empty name is no encoder"),
        (["a.mp4", "-o", "o.mp4", "--codec", "aac"], "--codec: aac encodes no videos"),
        (["a.mp4", "-o", "o.webm", "--codec", "h264"], "libx264 does not write yuv420p of 96 x 64 into webm"),
        (["none.mp4", "-o", "o.mp4"], "none.mp4 does not exist"),
        (["text.mp4", "-o", "o.mp4"], "text.mp4 cannot be read as a video"),
        (["picture.mp4", "-o", "o.mp4"], "picture.mp4 is a picture (png), whatever its name says"),
        (["sound.mp4", "-o", "o.mp4"], "sound.mp4 holds no video"),
        (["a.mp4", "-o", "a.mp4"], "a.mp4 would be written over itself"),
        (["a.mp4", "-o", "o.mp4", "--max-pixels", "100"], "more than 100 pixels"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    folder: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--weights", "tiny.safetensors"])
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert message in told
    assert told.count("\n") == 1
    assert sorted(os.listdir()) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    write_weights(str(made / "tiny.safetensors"), randomise(ESC(**TINY)).state_dict())
    make(made / "a.mp4", EVEN[:2], sound=False)
    (made / "text.mp4").write_text("no video")
    av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8)).to_image().save(made / "a.png")
    (made / "picture.mp4").write_bytes((made / "a.png").read_bytes())
    with av.open(str(made / "sound.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=48_000, layout="mono")
        sounds = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sounds.rate, sounds.pts = 48_000, 0
        output.mux([*audio.encode(sounds), *audio.encode(None)])
    return made


def test_without_pyav(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SystemExit):
        main(["a.mp4", "-o", "o.mp4", "--weights", "tiny.safetensors"])
    assert capsys.readouterr().err == "Error: Videos need an extra: pip install 'esc_arch[video]'.\n"


def test_videos_among_pictures_are_passed_over(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder), "-o", str(tmp_path), "--weights", str(folder / "tiny.safetensors")])
    assert "4 .mp4" in capsys.readouterr().out
