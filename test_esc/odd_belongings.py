"""Small pictures with all that can belong to one, as others write it, each with what ought to be found again."""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from odd_pictures import chunk, numbers, saved
from PIL import Image, ImageCms, IptcImagePlugin, features

from esc_arch.pictures.metadata import load_exif
from esc_arch.pictures.profiles import fit_profile

Chunks = tuple[tuple[bytes, bytes], ...]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = fit_profile(np.zeros((1, 1, 1), np.uint8), SRGB)[1] or b""
CMYK = SRGB[:16] + b"CMYK" + SRGB[20:]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="a camera"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x69\x00\x08headline" + b"\x1c\x02\x19\x00\x03sea"
RESOURCES = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
COMMENT = b"a remark"
TEXTS = ("tEXt", "zTXt", "iTXt")
SRGB_LIKE: Chunks = (
    (b"sRGB", b"\1"),
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
)
OWN: tuple[Chunks, ...] = (  # colours that PNG alone can tell
    ((b"gAMA", struct.pack(">I", 100_000)),),
    ((b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)),),
    ((b"cICP", bytes((9, 16, 0, 1))), (b"mDCV", bytes(range(24))), (b"cLLI", bytes(range(8)))),
)
HOLDS = {  # what each format keeps of a picture that has everything, as docs/upscaling.md says
    ".png": {"profile", "exif", "xmp", "iptc", "resolution", "comment", "texts", "chunks"},
    ".tif": {"profile", "exif", "xmp", "iptc", "resolution"},
    ".jpg": {"profile", "exif", "xmp", "iptc", "resolution", "comment"},
    ".webp": {"profile", "exif", "xmp", "resolution"},
    ".avif": {"profile", "exif", "xmp", "resolution"},
    ".bmp": {"resolution"},
}
IN_BLOCKS = (0x8769, 0x8825)
RESOLUTION_OF_EXIF = (0x011A, 0x011B, 0x0128)


@dataclass(frozen=True)
class Belonging:
    """A file and what belongs to the picture in it.

    Args:
        name: tells how it was written; ends in the suffix.
        data: the file.
        resolution: pixels per inch across and down, of the picture as it is seen.
        profile: ICC profile that fits the colours, as the picture is seen.
        exif: tags by number, or by the number of their directory and their own; no orientation.
        alpha: whether some of it is transparent.
        chunks: those of a PNG that say how colours are meant.
    """

    name: str
    data: bytes
    bits: int = 8
    alpha: bool = False
    resolution: tuple[float, float] | None = None
    profile: bytes | None = None
    exif: tuple[tuple[Any, Any], ...] = ()
    xmp: bytes = b""
    iptc: bytes = b""
    comment: bytes = b""
    texts: tuple[str, ...] = ()
    chunks: Chunks = ()


def exif(orientation: int | None = None, resolution: tuple[int, int] | None = None) -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x8298], tags[0x0131], tags[0x013B] = "a camera", "somebody", "Joerg's program", "Joerg"
    tags[0x8769] = {0x829A: 0.005, 0x9003: "2020:02:03 04:05:06", 0xA434: "a lens", 0x9286: b"ASCII\0\0\0seen"}
    tags[0x8769] |= {0xA433: "Joerg", 0xA005: {1: "R98"}}
    tags[0x8825] = {1: "N", 2: (52.0, 30.0, 1.5), 0x1D: "2020:02:03"}
    if orientation:
        tags[0x0112] = orientation
        tags[0x8769] |= {0xA002: 7, 0xA003: 9}
    if resolution:
        tags[0x011A], tags[0x011B], tags[0x0128] = *resolution, 2
    return tags.tobytes().replace(b"Joerg", "Jörg".encode())  # as programs write it


def facts(data: bytes | Image.Exif) -> dict[Any, Any]:
    """Every tag of EXIF data but the resolution, whatever the order and the types that they are stored in."""
    tags = load_exif(data)
    found = {tag: value for tag, value in tags.items() if tag not in (*IN_BLOCKS, *RESOLUTION_OF_EXIF)}
    for block in IN_BLOCKS:
        found |= {(block, tag): value for tag, value in tags.get_ifd(block).items() if tag != 0xA005}
    found |= {(0xA005, tag): value for tag, value in tags.get_ifd(0xA005).items()}
    return found


FACTS = tuple(facts(exif()).items())
PLAIN = tuple((tag, value) for tag, value in FACTS if isinstance(tag, int))  # in the first directory


def packet(orientation: int) -> bytes:
    """XMP that says how to turn, as cameras write it; without that and the sizes, it is `XMP`."""
    return XMP.replace(b'dc:source="a camera"', b'dc:source="a camera" tiff:Orientation="%d"' % orientation)


def turned(orientation: int, x: float = 300, y: float = 240) -> tuple[float, float]:
    return (y, x) if orientation >= 5 else (x, y)


def texts() -> Chunks:
    return (
        (b"tEXt", b"tEXt\0a cat, 20 steps"),
        (b"zTXt", b"zTXt\0\0" + zlib.compress(b"a cat, 20 steps")),
        (b"iTXt", b"iTXt\0\1\0en\0\0" + zlib.compress("a cät".encode())),
    )


def pngs() -> Iterator[Belonging]:
    """Every type of colour, depth and transparency; chunks before and behind the pixels; profiles that do not fit."""
    raw = b"\niptc\n%8d\n" % len(RESOURCES) + RESOURCES.hex("\n", 36).encode() + b"\n"
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    kinds = [(0, 1, 0), (0, 2, 1), (0, 8, 0), (0, 8, 1), (0, 16, 0), (0, 16, 1), (2, 8, 0), (2, 8, 1), (2, 16, 0)]
    kinds += [(2, 16, 1), (3, 1, 0), (3, 4, 1), (3, 8, 0), (4, 8, 0), (4, 16, 0), (6, 8, 0), (6, 16, 0)]
    for number, (colour, depth, keyed) in enumerate(kinds):
        orientation, late = (1, 6)[number % 2], number % 3 == 0
        flat = numbers(samples[colour], 2**depth - 1).reshape(9, -1)
        lines = b""
        for line in flat:
            digits = "".join(format(int(value), f"0{depth}b") for value in line)
            lines += b"\0" + int(digits + "0" * (-len(digits) % 8), 2).to_bytes((len(digits) + 7) // 8, "big")
        pixels = (b"IDAT", zlib.compress(lines))
        palette = np.random.default_rng(0).integers(0, 256, 3 * 2**depth, np.uint8).tobytes() if colour == 3 else b""
        key = b"\x40" if colour == 3 else flat[0, : samples[colour]].astype(">u2").tobytes()
        needed = [(b"PLTE", palette)] * (colour == 3) + [(b"tRNS", key)] * keyed
        needed += [(b"bKGD", {3: b"\0", 0: bytes(2), 4: bytes(2)}.get(colour, bytes(6)))]
        fitting = GREY if colour in (0, 4) else SRGB
        beside = [
            (b"pHYs", struct.pack(">IIB", round(300 / 0.0254), round(240 / 0.0254), 1)),
            (b"eXIf", exif(orientation).removeprefix(b"Exif\0\0")),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet(orientation)),
            (b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(raw)),
            *texts(),
            (b"tIME", bytes((7, 228, 2, 3, 4, 5, 6))),
        ]
        has_alpha = bool(keyed) or colour > 3
        whole = {"exif": FACTS, "xmp": XMP, "iptc": IPTC, "texts": TEXTS, "resolution": turned(orientation)}
        variants: list[tuple[str, Chunks, bytes | None]] = [("profile", ((b"iCCP", fitting),), fitting)]
        variants += [("srgb", SRGB_LIKE, None)]
        if depth >= 8:
            variants += [(f"own{index}", chunks, None) for index, chunks in enumerate(OWN)]
            other = SRGB if fitting == GREY else GREY
            variants += [("other", ((b"iCCP", other),), GREY if other == SRGB else None)]
            variants += [("cmyk", ((b"iCCP", CMYK),), None)]
        for what, chunks, profile in variants:
            stored = [
                (name, b"a name\0\0" + zlib.compress(content) if name == b"iCCP" else content)
                for name, content in chunks
            ]
            parts = [*stored, *needed, pixels, *beside] if late else [*stored, *needed, *beside, pixels]
            data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 9, depth, colour, 0, 0, 0))
            data += b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])
            kept = tuple(part for part in chunks if part[0] != b"iCCP")
            deep = 16 if depth == 16 else 8
            yield Belonging(
                f"png_{colour}_{depth}_{keyed}_{what}.png", data, deep, has_alpha, profile=profile, chunks=kept, **whole
            )


def jpegs() -> Iterator[Belonging]:
    """Grey, RGB and CMYK; resolution by JFIF or by EXIF; IPTC in one segment or several."""
    for mode, orientation, by_exif in [
        (mode, turn, way) for mode in ("L", "RGB", "CMYK") for turn in (1, 6) for way in (0, 1)
    ]:
        image = Image.fromarray(numbers(4, 255).astype("u1")).convert(mode)
        block = b"Photoshop 3.0\0" + RESOURCES
        blocks = [block] if by_exif else [block[:30], b"Photoshop 3.0\0" + block[30:]]
        given = (GREY, SRGB, CMYK)[("L", "RGB", "CMYK").index(mode)]
        options: dict[str, Any] = {} if by_exif else {"dpi": (300, 240)}
        data = saved(
            image,
            "JPEG",
            exif=exif(orientation, (300, 240) if by_exif else None),
            xmp=packet(orientation),
            icc_profile=given,
            comment=COMMENT,
            extra=b"".join(b"\xff\xed" + struct.pack(">H", len(part) + 2) + part for part in blocks),
            **options,
        )
        yield Belonging(
            f"jpeg_{mode}_{orientation}_{by_exif}.jpg",
            data,
            resolution=turned(orientation),
            profile=None if mode == "CMYK" else given,
            exif=FACTS,
            xmp=XMP,
            iptc=IPTC,
            comment=COMMENT,
        )


def tiffs() -> Iterator[Belonging]:
    """Of tifffile, every type and order of bytes, IPTC as different programs store it; of Pillow, with EXIF, too."""
    codes = {0x010F: "a camera", 0x8298: "somebody", 0x013B: "Jörg"}
    for number, (dtype, channels) in enumerate((d, c) for d in ("u1", "u2", "f4") for c in (1, 2, 3, 4)):
        orientation, order, unit = (1, 6)[number % 2], "<>"[number // 2 % 2], number % 3 == 0
        whole = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
        pixels = (numbers(channels, 255) / 255 * whole).astype(dtype)
        profile = SRGB if channels > 2 else GREY
        padded = IPTC + bytes(-len(IPTC) % 4)
        as_longs = (33723, 4, len(padded) // 4, struct.unpack(f"{order}{len(padded) // 4}I", padded), True)
        stored = [(33723, 7, len(IPTC), IPTC, True), as_longs, (34377, 1, len(RESOURCES), RESOURCES, True)][number % 3]
        tags: list[Any] = [(tag, "s", 0, text.encode(), True) for tag, text in codes.items()]
        tags += [
            (274, "H", 1, orientation, True),
            (700, 1, len(packet(orientation)), packet(orientation), True),
            stored,
        ]
        tifffile.imwrite(
            stream := io.BytesIO(),
            pixels[..., 0] if channels == 1 else pixels,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig=None if channels == 1 else "contig",
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            byteorder=order,
            bigtiff=number % 5 == 0,
            resolution=(300 / 2.54, 240 / 2.54) if unit else (300, 240),
            resolutionunit=3 if unit else 2,
            iccprofile=profile,
            metadata=None,
            software="Jörg's program".encode(),
            extratags=tags,
        )
        yield Belonging(
            f"tifffile_{dtype}_{channels}.tif",
            stream.getvalue(),
            8 if dtype == "u1" else 16,
            channels in (2, 4),
            turned(orientation),
            profile,
            PLAIN,
            XMP,
            IPTC,
        )
    for mode, compression in [
        (m, c) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16") for c in (None, "tiff_lzw", "jpeg")
    ]:
        if compression == "jpeg" and mode not in ("L", "RGB", "CMYK"):
            continue
        image = Image.fromarray(numbers(4, 255).astype("u1")).convert(mode.replace("I;16", "I"))
        image = Image.fromarray(np.asarray(image).astype("u2")) if mode == "I;16" else image
        fits = {"1": GREY, "L": GREY, "LA": GREY, "I;16": GREY, "CMYK": None}.get(mode, SRGB)
        tags = load_exif(exif())
        tags[700], tags[274] = packet(6), 6
        if compression is None:
            tags[33723] = IPTC
        else:  # libtiff, as Pillow calls it, takes no directories and no IPTC
            del tags[0x8769], tags[0x8825]
        data = saved(
            image, "TIFF", compression=compression, exif=tags, icc_profile=fits or CMYK, dpi=(300, 240), save_all=False
        )
        written = facts(data)  # Pillow spoils some of them
        assert written[0x010F] == "a camera"
        yield Belonging(
            f"pillow_{mode.replace(';', '')}_{compression}.tif",
            data,
            16 if mode == "I;16" else 8,
            mode in ("LA", "RGBA"),
            turned(6),
            fits,
            tuple((tag, value) for tag, value in FACTS if written.get(tag) == value),
            XMP,
            b"" if compression else IPTC,
        )


def others() -> Iterator[Belonging]:
    """WebP, AVIF, HEIC and JPEG XL, where the libraries are there; BMP, PCX, GIF."""
    rgba = numbers(4, 255).astype("u1")
    common: dict[str, Any] = {"resolution": (300, 240), "profile": SRGB, "exif": FACTS, "xmp": XMP}
    for mode, lossless in [(m, c) for m in ("RGB", "RGBA") for c in (False, True)]:
        image = Image.fromarray(rgba).convert(mode)
        options: dict[str, Any] = {"exif": exif(6, (240, 300)), "xmp": packet(6), "icc_profile": SRGB}
        data = saved(image, "WEBP", lossless=lossless, **options)
        yield Belonging(f"webp_{mode}_{lossless}.webp", data, alpha=mode == "RGBA", **common)
        if features.check("avif") and not lossless:
            flat = Image.fromarray(np.full((16, 16, 4), 90, np.uint8)).convert(mode)
            options |= {"exif": exif(None, (300, 240)), "xmp": XMP}  # of a turn, Pillow would write all anew
            data = saved(flat, "AVIF", **options)
            yield Belonging(f"avif_{mode}.avif", data, alpha=mode == "RGBA", **common)
    blocks = Image.fromarray(np.kron(rgba[..., :3], np.ones((16, 16, 1), np.uint8)))
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        data = saved(blocks, "HEIF", exif=exif(None, (300, 240)), xmp=XMP, icc_profile=SRGB)
        yield Belonging("heif.heic", data, **common)
    if importlib.util.find_spec("pillow_jxl"):
        importlib.import_module("pillow_jxl")
        data = saved(blocks, "JXL", exif=exif(None, (300, 240)), xmp=XMP)
        with Image.open(io.BytesIO(data)) as stored:  # which says by a profile of its own what sRGB is
            yield Belonging("jxl.jxl", data, **(common | {"profile": stored.info["icc_profile"]}))
    small = Image.fromarray(rgba).convert("RGB")
    for mode in ("1", "L", "P", "RGB"):
        yield Belonging(f"bmp_{mode}.bmp", saved(small.convert(mode), "BMP", dpi=(300, 240)), resolution=(300, 240))
        data = bytearray(saved(small.convert(mode), "PCX"))
        struct.pack_into("<HH", data, 12, 300, 240)
        yield Belonging(f"pcx_{mode}.pcx", bytes(data), resolution=(300, 240))
    yield Belonging("gif_P.gif", saved(small.quantize(9), "GIF", comment=COMMENT), comment=COMMENT)
    yield Belonging(
        "gif_1.gif", saved(small.convert("1"), "GIF", comment=COMMENT, transparency=0), alpha=True, comment=COMMENT
    )


def every() -> list[Belonging]:
    return [*pngs(), *jpegs(), *tiffs(), *others()]


def found_in(file: str) -> dict[str, Any]:
    """What of a file is seen by Pillow; of a PNG, its chunks, and of a TIFF, its tags."""
    with open(file, "rb") as stream:
        data = stream.read()
    if data[:2] == b"II":
        return _found_in_tiff(data)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        info, tags = image.info, image.getexif()
        found: dict[str, Any] = {"format": image.format, "is grey": image.mode in ("1", "L", "LA", "I;16")}
        found |= {"profile": info.get("icc_profile"), "exif": tags, "xmp": info.get("xmp", b""), "texts": ()}
        found["resolution"] = info.get("dpi") or _resolution_of(tags)
        records = IptcImagePlugin.getiptcinfo(image) or {}
        found |= {"iptc": IPTC if records == {(2, 105): b"headline", (2, 25): b"sea"} else records or b""}
        found |= {"comment": info.get("comment", b""), "chunks": _codes_of_avif(data)}
    return found | (_found_in_png(data) if found["format"] == "PNG" else {})


def _codes_of_avif(data: bytes) -> Chunks:
    """What an AVIF says of its colours, as the chunk of PNG that says the same; none for sRGB and nothing."""
    start = data.find(b"colrnclx")
    codes = data[start + 9 : start + 12 : 2] if start > 0 else b""
    return ((b"cICP", codes + b"\0\1"),) if codes not in (b"", b"\1\x0d", b"\2\2") else ()


def _resolution_of(tags: Image.Exif) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(tags.get(296, 2))
    return (float(tags[282]) * unit, float(tags[283]) * unit) if unit and 282 in tags else None


def _found_in_tiff(data: bytes) -> dict[str, Any]:
    tags = load_exif(data)
    found: dict[str, Any] = {"format": "TIFF", "is grey": tags[262] < 2, "comment": b"", "texts": (), "chunks": ()}
    found |= {
        "profile": tags.get(34675),
        "xmp": tags.get(700, b""),
        "iptc": tags.get(33723, b"").rstrip(b"\0"),
        "exif": tags,
    }
    return found | {"resolution": _resolution_of(tags)}


def _found_in_png(data: bytes) -> dict[str, Any]:
    position, names, chunks = 8, [], []
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        chunks.append((name, data[position + 8 : position + 8 + length]))
        names.append(name)
        position += 12 + length
    colours = {name for part in (SRGB_LIKE, *OWN) for name, _ in part}
    before = names[: names.index(b"IDAT")]
    assert all(name in before for name in names if name in colours | {b"iCCP", b"pHYs"})
    assert all(names.count(name) <= 1 for name in colours | {b"iCCP", b"pHYs", b"eXIf"})
    found: dict[str, Any] = {"is grey": data[25] in (0, 4)}
    found["texts"] = tuple(part[0].decode() for part in texts() if part in chunks)
    found["chunks"] = tuple(part for part in chunks if part[0] in colours)
    found["comment"] = COMMENT if (b"iTXt", b"Comment\0\0\0\0\0" + COMMENT) in chunks else b""
    raw = [part for name, part in chunks if name == b"zTXt" and part.startswith(b"Raw profile type iptc\0\0")]
    if raw:
        block = bytes.fromhex(zlib.decompress(raw[0][23:]).split(b"\n", 3)[3].decode())
        assert block[:6] == RESOURCES[:6]
        found["iptc"] = block[12:].rstrip(b"\0")
    return found
