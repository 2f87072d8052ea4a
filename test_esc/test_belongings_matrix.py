"""What belongs to a picture goes through the command: from every format into every one, as other programs see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from odd_belongings import HOLDS, Belonging, every, facts, found_in
from PIL import Image
from test_matrix import ENLARGER

import esc_arch.upscale.__main__ as command
from esc_arch.pictures.formats import FORMATS, result_suffix


def is_told(source: Belonging, kind: str) -> bool:
    """Whether a format cannot hold the picture, so that it is refused."""
    own = len(source.chunks) == 1 or (kind != "AVIF" and any(name == b"cICP" for name, _ in source.chunks))
    deep = source.bits == 16 and kind not in ("PNG", "TIFF")
    return deep or (source.alpha and kind == "JPEG") or (own and kind != "PNG")


def problems(source: Belonging, file: Path) -> list[str]:
    """What of a picture is not as it was."""
    found = found_in(str(file))
    kind, wrong = found["format"], []
    holds = HOLDS[file.suffix]
    for name in ("xmp", "iptc", "comment", "texts"):
        expected = getattr(source, name) if name in holds else type(getattr(source, name))()
        if found[name] != expected:
            wrong.append(f"{name} is {found[name]!r:.200}, not {expected!r}")
    chunks = tuple(part for part in source.chunks if "chunks" in holds or (kind == "AVIF" and part[0] == b"cICP"))
    if sorted(found["chunks"]) != sorted(chunks):
        wrong.append(f"chunks are {found['chunks']}, not {chunks}")
    profile = source.profile if "profile" in holds else None
    if (found["profile"] is None) != (profile is None):
        wrong.append(f"its profile is {'lost' if profile else 'there'}")
    elif profile:
        stored = found["profile"]
        space = b"GRAY" if found["is grey"] else b"RGB "
        if stored[16:20] != space:
            wrong.append(f"a profile for {stored[16:20]!r} where colours are {space!r}")
        elif profile[16:20] == space and stored != profile:
            wrong.append("its profile is another one")
    seen = facts(found["exif"])
    if seen.pop(0x0112, 1) != 1:
        wrong.append("it is turned twice")
    for tag in () if kind == "BMP" else (0x0100, 0x0101, 0xA002, 0xA003):
        if kind != "TIFF" and (tag in seen or (0x8769, tag) in seen):
            wrong.append(f"the tag {tag:#x} is stale")
    expected_tags = dict(source.exif) if "exif" in holds else {}
    lost = {tag: seen.get(tag) for tag, value in expected_tags.items() if seen.get(tag) != value}
    if lost:
        wrong.append(f"EXIF became {lost}")
    return [*wrong, *wrong_resolutions(found, source.resolution if "resolution" in holds else None)]


def wrong_resolutions(found: dict[str, Any], expected: tuple[float, float] | None) -> list[str]:
    """What the format and its EXIF data state, against what was stated."""
    kind, stated, tags = found["format"], found["resolution"], found["exif"]
    if expected is None:  # BMP and JPEG have a field for it that is never empty
        return [f"it has a resolution, {stated}"] if stated and kind not in ("BMP", "JPEG") else []
    if stated != pytest.approx(expected, rel=2e-3):
        return [f"its resolution is {stated}, not {expected}"]
    if 0x011A in tags and kind != "TIFF":
        factor = 2.54 if tags.get(0x0128) == 3 else 1
        by_exif = tuple(float(tags[tag]) * factor for tag in (0x011A, 0x011B))
        if by_exif != pytest.approx(expected, rel=2e-3):
            return [f"its EXIF states a resolution of {by_exif}, not {expected}"]
    return []


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Belonging]]:
    folder, found = tmp_path_factory.mktemp("sources"), every()
    for source in found:
        (folder / source.name).write_bytes(source.data)
    return folder, found


CASES: list[list[str]] = [[], *(["--format", kind] for kind in command.KINDS)]
CASES += [["--scale", "3"], ["--size", "30x"], ["--longest", "5"], ["--format", "tif", "--scale", "1.3"]]


@pytest.mark.parametrize("options", CASES, ids=" ".join)
def test_what_belongs_to_pictures_goes_through_the_command(
    options: list[str],
    sources: tuple[Path, list[Belonging]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "load_enlarger", lambda *_, **__: ENLARGER)
    kind = options[options.index("--format") + 1] if "--format" in options else None
    if kind == "avif" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    place, files = sources
    targets, refused = {}, set()
    for source in files:
        own = Path(source.name)
        suffix = command.KINDS[kind] if kind else result_suffix(own.suffix)
        if is_told(source, FORMATS[suffix]):
            refused.add(source.name)
        else:
            targets[source.name] = Path("out", f"{own.stem}_r{suffix}")
    arguments = [str(place), "-o", "out", "--suffix", "_r", *options]
    if refused:
        with pytest.raises(SystemExit, match="1"):
            command.main(arguments)
    else:
        command.main(arguments)
    told = {Path(line.removeprefix("Error: ").partition(": ")[0]).name for line in capsys.readouterr().err.splitlines()}
    assert told == refused
    assert sorted(Path("out").iterdir()) == sorted(targets.values())
    wrong = {
        source.name: found
        for source in files
        if source.name in targets and (found := problems(source, targets[source.name]))
    }
    listed = "\n".join(f"{name}: {found}" for name, found in list(wrong.items())[:20])
    assert not wrong, f"{len(wrong)} pictures are wrong:\n{listed}"
