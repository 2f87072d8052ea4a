"""What belongs to a picture travels with it: resolution, profile, EXIF, XMP, IPTC, texts, what its colours mean."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_belongings import HOLDS, IPTC, SRGB, XMP, exif, facts
from odd_pictures import chunk, saved
from PIL import Image, ImageCms, IptcImagePlugin, PngImagePlugin, features

from esc_arch.common.errors import UserError
from esc_arch.pictures.metadata import clean_xmp, load_exif
from esc_arch.pictures.picture import Picture, Resolution
from esc_arch.pictures.profiles import fit_profile
from esc_arch.pictures.reading import read_picture
from esc_arch.pictures.writing import check_target, without_metadata, write_picture

LIMIT = 10**6
TEXT = b"parameters\0a cat, 20 steps"
COLOURS = (
    (b"cICP", bytes((9, 16, 0, 1))),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
)
RNG = np.random.default_rng(0)


def everything(channels: int, dtype: str) -> Picture:
    pixels = RNG.integers(0, np.iinfo(dtype).max + 1, (8, 6, channels), dtype)
    profile = fit_profile(pixels, SRGB)[1]
    chunks = (*COLOURS, (b"tEXt", TEXT))
    return Picture(pixels, profile, exif(), XMP, IPTC, Resolution(300.0, 240.0), b"a remark", chunks)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", HOLDS)
def test_every_format_keeps_what_it_can_hold(tmp_path: Path, suffix: str, channels: int, dtype: str) -> None:
    if dtype == "uint16" and suffix not in (".png", ".tif"):
        pytest.skip("holds 8 bits")
    if channels in (2, 4) and suffix == ".jpg":
        pytest.skip("holds no alpha")
    picture = everything(channels, dtype)
    target = str(tmp_path / f"a{suffix}")
    if suffix == ".png":
        check_target(target, picture, 1)
    else:
        with pytest.raises(UserError, match="what the colours of this picture mean"):
            check_target(target, picture, 1)
        check_target(target, replace(picture, chunks=picture.chunks[-1:]), 1)
    try:
        write_picture(target, picture)
    except UserError:
        if suffix == ".avif" and "AVIF" not in Image.SAVE:
            pytest.skip("this Pillow has no AVIF")
        raise
    found = read_picture(target, LIMIT)
    kept = set()
    if found.profile:
        kept.add("profile")
        space = found.profile[16:20]
        assert space == (b"GRAY" if found.pixels.shape[2] < 3 else b"RGB ")
    if found.exif and facts(found.exif):
        assert facts(found.exif) == facts(picture.exif)
        kept.add("exif")
    for name in ("xmp", "iptc", "comment"):
        if value := getattr(found, name):
            assert value == getattr(picture, name)
            kept.add(name)
    if found.resolution:
        assert found.resolution.per_inch() == pytest.approx((300, 240), rel=1e-3)
        kept.add("resolution")
    texts = [content for name, content in found.chunks if name == b"iTXt"]
    if any(content.endswith(b"a remark") for content in texts):
        kept.add("comment")
    rest = tuple(part for part in found.chunks if part[0] != b"iTXt")
    if rest:
        assert rest == picture.chunks
        kept.add("chunks")
    assert kept == HOLDS[suffix] - {"texts"}  # which are among the chunks
    write_picture(str(tmp_path / f"b{suffix}"), found)
    assert replace(read_picture(str(tmp_path / f"b{suffix}"), LIMIT), pixels=found.pixels) == replace(
        found, pixels=found.pixels
    )


def test_others_read_what_was_written(tmp_path: Path) -> None:
    picture = everything(3, "uint8")
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        write_picture(str(tmp_path / f"a{suffix}"), picture)
        with Image.open(tmp_path / f"a{suffix}") as image:
            image.load()
            assert image.info["icc_profile"] == SRGB
            assert image.getexif()[0x010F] == "a camera"
            assert image.getexif()[0x013B].encode("latin-1").decode() == "Jörg"
            assert image.getexif().get_ifd(0x8769)[0xA434] == "a lens"
            assert image.getexif().get_ifd(0x8825)[1] == "N"
            assert image.info["xmp"] == XMP
            if suffix != ".webp":
                assert image.info["dpi"] == pytest.approx((300, 240), rel=1e-3)
            if suffix in (".jpg", ".tif"):
                assert IptcImagePlugin.getiptcinfo(image) == {(2, 105): b"headline", (2, 25): b"sea"}
            if suffix == ".png":
                assert image.info["gamma"] == 1
                assert image.text["parameters"] == "a cat, 20 steps"
                assert image.text["Comment"] == "a remark"
    write_picture(str(tmp_path / "deep.tif"), everything(4, "uint16"))
    with tifffile.TiffFile(tmp_path / "deep.tif") as tiff:
        tags = tiff.pages.first.tags
        assert tags[282].value == (300, 1)
        assert tags[34665].value["LensModel"] == "a lens"
        assert tags[34853].value["GPSLatitudeRef"] == "N"
        assert tags[271].value == "a camera"
        assert 270 not in tags


@pytest.mark.parametrize("title", [b"iptc", b"IPTC profile", b"8bim"])
def test_iptc_in_png_as_other_programs_store_it(tmp_path: Path, title: bytes) -> None:
    block = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
    kind = b"8bim" if title == b"8bim" else b"iptc"
    text = b"\n" + title + b"\n%8d\n" % len(block) + block.hex("\n", 36).encode() + b"\n"
    (tmp_path / "a.png").write_bytes(png_with((b"zTXt", b"Raw profile type " + kind + b"\0\0" + zlib.compress(text))))
    picture = read_picture(str(tmp_path / "a.png"), LIMIT)
    assert picture.iptc == IPTC
    write_picture(str(tmp_path / "b.png"), picture)
    with Image.open(tmp_path / "b.png") as image:
        image.load()
        stored = image.text["Raw profile type iptc"]
    assert stored.startswith("\niptc\n")
    assert bytes.fromhex(stored.split("\n", 3)[3]).startswith(b"8BIM")  # what ExifTool and exiv2 look for


def test_exif_of_avif_is_kept_where_it_says_how_to_turn_too(tmp_path: Path) -> None:
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    tags = load_exif(exif())
    tags[0x0113] = 6  # a neighbour of the orientation, which Pillow would take out
    stored = tags.tobytes().replace(b"J??rg", "Jörg".encode())
    data = saved(Image.fromarray(RNG.integers(0, 256, (8, 6, 3), np.uint8)), "AVIF", exif=stored)
    entry = struct.pack(">HHIH", 0x0113, 3, 1, 6)
    assert data.count(entry) == 1
    (tmp_path / "a.avif").write_bytes(data.replace(entry, struct.pack(">HHIH", 0x0112, 3, 1, 6)))
    picture = read_picture(str(tmp_path / "a.avif"), LIMIT)
    assert picture.pixels.shape == (8, 6, 3)  # as the format itself says
    assert facts(picture.exif) == facts(exif())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_bytes_of_exif_keep_their_type(tmp_path: Path, suffix: str) -> None:
    tags = Image.Exif()
    tags[0x8769] = {0x9286: [bytearray(b"ASCII\0\0\0seen")], 0x927C: [bytearray(b"a maker's note")]}
    tags[0x8825] = {0: b"\2\3\0\0", 5: b"\1", 0x1B: [bytearray(b"ASCII\0\0\0GPS")]}
    stored = tags.tobytes()
    expected = [(0x9286, 7, 12), (0x927C, 7, 14), (0, 1, 4), (5, 1, 1), (0x1B, 7, 11)]
    assert all(struct.pack(">HHI", *entry) in stored for entry in expected)
    (tmp_path / "a.png").write_bytes(png_with((b"eXIf", stored.removeprefix(b"Exif\0\0"))))
    write_picture(str(tmp_path / f"b{suffix}"), read_picture(str(tmp_path / "a.png"), LIMIT))
    data = (tmp_path / f"b{suffix}").read_bytes()
    order = "<" if suffix == ".tif" else ">"
    assert [entry for entry in expected if struct.pack(f"{order}HHI", *entry) not in data] == []


def png_with(*parts: tuple[bytes, bytes], deep: bool = False) -> bytes:
    """A PNG with these chunks between header and pixels."""
    rows = b"".join(b"\0" + bytes(range(6 * (6 if deep else 3))) for _ in range(8))
    header = struct.pack(">IIBBBBB", 6, 8, 16 if deep else 8, 2, 0, 0, 0)
    stored = [(b"IHDR", header), *parts, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in stored)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("extra", [*COLOURS, (b"sRGB", b"\1"), (b"mDCV", bytes(24)), (b"cLLI", bytes(8))])
def test_png_keeps_how_its_colours_are_meant(tmp_path: Path, extra: tuple[bytes, bytes], deep: bool) -> None:
    (tmp_path / "a.png").write_bytes(png_with(extra, deep=deep))
    write_picture(str(tmp_path / "b.png"), read_picture(str(tmp_path / "a.png"), LIMIT))
    assert chunk(*extra) in (tmp_path / "b.png").read_bytes()


def test_damage_is_no_reason_to_refuse(tmp_path: Path) -> None:
    wrong_sum = b"\0\0\0\4gAMA" + struct.pack(">I", 45455) + b"oops"
    garbage = b"Exif\0\0" + b"garbage!" * 4
    cut = b"Exif\0\0" + b"MM\0*" + struct.pack(">IH", 8, 40) + bytes(5)
    endless = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x8769, 4, 1, 8)  # a directory within itself
    image = Image.fromarray(RNG.integers(0, 256, (8, 6, 3), np.uint8))
    files = {"sum.png": png_with()[:33] + wrong_sum + png_with()[33:]}
    for index, content in enumerate((b"name\0\0not zlib", b"", b"\0\0" + zlib.compress(SRGB)[:50])):
        files[f"profile_{index}.png"] = png_with((b"iCCP", content), (b"pHYs", b"short"), (b"tRNS", b"\1"))
    for index, data in enumerate((garbage, cut, endless)):
        files[f"{index}.png"] = png_with((b"eXIf", data[6:]))
        for suffix, kind in ((".jpg", "JPEG"), (".webp", "WEBP")):
            files[f"{index}{suffix}"] = saved(image, kind, exif=data, xmp=b"\xff\xfe not xml", icc_profile=b"none")
        tiff = io.BytesIO()
        pointer = (
            34664,
            "I",
            1,
            (10**9, 3, 2**32 - 1)[index],
            True,
        )  # one less than the tag, which tifffile does not take
        tifffile.imwrite(tiff, np.asarray(image), metadata=None, software=False, extratags=[pointer])
        assert tiff.getvalue().count(b"\x68\x87\4\0") == 1
        files[f"{index}.tif"] = tiff.getvalue().replace(b"\x68\x87\4\0", b"\x69\x87\4\0")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        found = read_picture(str(tmp_path / name), LIMIT)
        assert found.pixels.shape == (8, 6, 3)
        assert (found.profile, found.exif) == (None, b"")
        write_picture(str(tmp_path / f"result_{name}"), found)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_large_profiles_and_texts(tmp_path: Path, suffix: str) -> None:
    large = struct.pack(">I", 1_500_000) + SRGB[4:] + RNG.bytes(1_500_000 - len(SRGB))
    image = Image.fromarray(RNG.integers(0, 256, (8, 6, 3), np.uint8))
    options: dict[str, Any] = {"icc_profile": large}
    if suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for packed in (False, True):
            options["pnginfo"].add_text("workflow", "x" * 2_000_000, zip=packed)
            options["pnginfo"].add_itxt("Title", "ü" * 2_000_000, zip=packed)
    image.save(tmp_path / f"a{suffix}", **options)
    found = read_picture(str(tmp_path / f"a{suffix}"), LIMIT)
    write_picture(str(tmp_path / f"b{suffix}"), found)
    again = read_picture(str(tmp_path / f"b{suffix}"), LIMIT)
    assert again.profile == large
    assert again.chunks == found.chunks
    assert len(found.chunks) == (4 if suffix == ".png" else 0)


def test_what_is_too_long_for_jpeg_is_left(tmp_path: Path) -> None:
    long = replace(everything(3, "uint8"), xmp=XMP * 400, comment=bytes(70_000), exif=b"")
    write_picture(str(tmp_path / "a.jpg"), long)
    found = read_picture(str(tmp_path / "a.jpg"), LIMIT)
    assert (found.xmp, found.comment) == (b"", b"")
    assert found.profile == long.profile


@pytest.mark.parametrize("unit", ["inch", "cm", ""])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp", ".webp"])
def test_every_unit_of_resolution(tmp_path: Path, suffix: str, unit: str) -> None:
    picture = Picture(np.zeros((4, 4, 3), np.uint8), resolution=Resolution(120, 60, unit))
    write_picture(str(tmp_path / f"a{suffix}"), picture)
    found = read_picture(str(tmp_path / f"a{suffix}"), LIMIT).resolution
    if not unit and suffix == ".bmp":
        assert found is None
        return
    assert found is not None
    if unit:
        assert found.per_inch() == pytest.approx(picture.resolution.per_inch(), rel=1e-3)
    else:
        assert found.x / found.y == 2
        assert not found.unit


def test_a_turned_picture_has_its_resolution_turned_and_forgets_the_turn(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    packet = XMP.replace(b'dc:source="a camera"', b'dc:source="a camera" tiff:Orientation="6" exif:PixelXDimension="9"')
    image = Image.new("RGB", (9, 5))
    image.save(tmp_path / "a.jpg", exif=tags, xmp=packet, dpi=(100, 200))
    found = read_picture(str(tmp_path / "a.jpg"), LIMIT)
    assert found.pixels.shape == (9, 5, 3)
    assert found.resolution == Resolution(200, 100)
    assert found.xmp == XMP
    image.save(tmp_path / "b.jpg", xmp=packet)  # which says it alone
    assert read_picture(str(tmp_path / "b.jpg"), LIMIT).pixels.shape == (9, 5, 3)


@pytest.mark.parametrize(
    "stale",
    [
        b' hdrgm:Version="1.0"',
        b" GCamera:MicroVideo='1' GCamera:MicroVideoOffset='4122'",
        b' GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"',
        b' xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF" GDepth:Format="RangeInverse" GDepth:Near=\'1\'',
        b"<hdrgm:Version>1.0</hdrgm:Version>",
        b"<Container:Directory>\n<rdf:Seq><rdf:li><Item:Length>99</Item:Length></rdf:li></rdf:Seq></Container:Directory>",
        b'<xmp:Thumbnails>\n<rdf:Alt><rdf:li xmpGImg:image="AAAA"/></rdf:Alt></xmp:Thumbnails>',
    ],
)
def test_xmp_forgets_the_companions_that_are_left(stale: bytes) -> None:
    if stale.startswith(b"<"):
        body = b'<rdf:Description dc:source="a camera">%s<dc:title>it</dc:title></rdf:Description>'
    else:
        body = b'<rdf:Description%s dc:source="a camera"><dc:title>it</dc:title></rdf:Description>'
    packet = b'<x:xmpmeta xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/">' + body + b"</x:xmpmeta>"
    assert clean_xmp(packet % stale) == packet % b""


def profile_of(space: bytes) -> bytes:
    return SRGB[:16] + space + SRGB[20:]


def test_profiles_fit_what_is_stored(tmp_path: Path) -> None:
    grey = fit_profile(np.zeros((1, 1, 1), np.uint8), SRGB)[1]
    assert grey is not None
    ramp = np.arange(256, dtype=np.uint8)[None]
    source = ImageCms.getOpenProfile(io.BytesIO(grey))
    seen = ImageCms.profileToProfile(Image.fromarray(ramp), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    np.testing.assert_array_equal(np.asarray(seen)[..., 1], ramp)

    colours, same = RNG.integers(0, 256, (4, 4, 4), np.uint8), np.full((4, 4, 4), 90, np.uint8)
    assert fit_profile(colours, grey)[1] is None
    assert fit_profile(same, grey)[0].shape == (4, 4, 2)
    for space in (b"CMYK", b"Lab ", b"XYZ "):
        assert fit_profile(colours, profile_of(space))[1] is None
        assert fit_profile(colours[..., :1], profile_of(space))[1] is None
    for broken in (b"", b"nonsense", SRGB[:130], profile_of(b"RGB ")[:200]):
        assert fit_profile(colours[..., :1], broken)[1] is None

    palette = Image.fromarray(np.repeat(ramp, 3, axis=0)).convert("P")
    for suffix in (".png", ".tif"):
        palette.save(tmp_path / f"a{suffix}", icc_profile=grey)
        found = read_picture(str(tmp_path / f"a{suffix}"), LIMIT)
        assert found.profile == grey
        assert found.pixels.shape[2] == 1


def test_colours_become_srgb_where_no_profile_can_be_kept(tmp_path: Path) -> None:
    linear = bytearray(SRGB)
    count = struct.unpack_from(">I", SRGB, 128)[0]
    for index in range(count):
        name, start, _ = struct.unpack_from(">4sII", SRGB, 132 + 12 * index)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            linear[start : start + 12] = b"curv" + bytes(8)  # no entries: the identity
    pixels = np.full((4, 4, 3), 55, np.uint8)
    write_picture(str(tmp_path / "a.bmp"), Picture(pixels, bytes(linear)))
    found = read_picture(str(tmp_path / "a.bmp"), LIMIT)
    assert np.abs(found.pixels.astype(int) - 128).max() <= 1  # 55 / 255 of the light looks like 128


@pytest.mark.parametrize(
    ("chunks", "told"),
    [
        ([(b"gAMA", struct.pack(">I", 45455))], False),
        ([(b"gAMA", struct.pack(">I", 100_000))], True),
        ([(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")], False),
        ([COLOURS[2]], False),
        ([(b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600))], True),
        ([(b"cICP", bytes((1, 13, 0, 1)))], False),
        ([(b"cICP", bytes((9, 16, 0, 1)))], True),
        ([(b"gAMA", b"x")], False),
    ],
)
def test_colours_that_only_png_can_tell(chunks: list[tuple[bytes, bytes]], told: bool, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_with(*chunks))
    picture = read_picture(str(tmp_path / "a.png"), LIMIT)
    check_target("b.png", picture, 1)
    if told:
        with pytest.raises(UserError, match=r"gAMA, cHRM, cICP.*--format png"):
            check_target("b.jpg", picture, 1)
    else:
        check_target("b.jpg", picture, 1)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_says_what_cicp_does(tmp_path: Path) -> None:
    """Wide colours of an AVIF stay what they are, also those that come from a PNG."""
    wide = (b"cICP", bytes((12, 13, 0, 1)))  # Display P3
    (tmp_path / "a.png").write_bytes(png_with(wide))
    picture = read_picture(str(tmp_path / "a.png"), LIMIT)
    check_target("b.avif", picture, 1)
    write_picture(str(tmp_path / "b.avif"), picture)
    again = read_picture(str(tmp_path / "b.avif"), LIMIT)
    assert again.chunks == (wide,)
    check_target("c.avif", again, 1)
    write_picture(str(tmp_path / "c.avif"), without_metadata(again))
    assert read_picture(str(tmp_path / "c.avif"), LIMIT).chunks == (wide,)
    for other in ((b"cICP", bytes((12, 13, 0, 0))), (b"gAMA", struct.pack(">I", 100_000))):  # a narrow range; no codes
        (tmp_path / "d.png").write_bytes(png_with(other))
        with pytest.raises(UserError, match="an AVIF cannot say what the colours"):
            check_target("b.avif", read_picture(str(tmp_path / "d.png"), LIMIT), 1)


def test_the_profile_within_a_bmp(tmp_path: Path) -> None:
    pixels = bytes(range(48))
    header = struct.pack("<IiiHHIIiiII", 124, 4, 4, 1, 24, 0, 48, 0, 0, 0, 0) + bytes(16) + b"DEBM" + bytes(52)
    header += struct.pack("<III", 124 + 48, len(SRGB), 0)
    assert len(header) == 124
    head = b"BM" + struct.pack("<IHHI", 14 + 124 + 48 + len(SRGB), 0, 0, 14 + 124)
    (tmp_path / "a.bmp").write_bytes(head + header + pixels + SRGB)
    assert read_picture(str(tmp_path / "a.bmp"), LIMIT).profile == SRGB
