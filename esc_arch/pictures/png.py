"""PNG: the chunks that pixels are made of, and those that belong to the picture (W3C, third edition, 2025)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from PIL import Image, PngImagePlugin

from esc_arch.common.errors import UserError
from esc_arch.pictures.metadata import (
    clean_exif,
    clean_xmp,
    iptc_of_resources,
    load_exif,
    orientation_of,
    resources_of_iptc,
)
from esc_arch.pictures.opencv import decode_deep
from esc_arch.pictures.picture import INCH, Picture, Pixels, Resolution
from esc_arch.pictures.profiles import fit_profile
from esc_arch.pictures.upright import turn_resolution, turn_upright

Chunk = tuple[bytes, bytes]  # name and content

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # types of colour
_COLOUR = (b"cICP", b"mDCV", b"cLLI", b"sRGB", b"gAMA", b"cHRM")  # how colours are meant; before the pixels
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "  # how ImageMagick and exiv2 store what PNG had no chunk for
_SRGB_CODES = (b"\1\1", b"\1\6", b"\1\x0d")  # primaries and transfer of ITU-T H.273 that are shown as sRGB is
_SRGB_GAMMA, _SRGB_PRIMARIES = (45455,), (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_TOLERANCE = 1500  # of 100 000
_LARGEST_UNPACKED = 256 * 2**20  # bytes of a profile or a text
_CENTIMETRES = 100  # of a metre
_DOUBTFUL = b"idat"  # how pixels are called whose checksum is wrong: their stream has another one
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}  # of a pixel, by the type of colour
_WHOLE = ((0, 0, 1, 1),)  # first row and column of a pass, and steps down and across
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # of Adam7


def read_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG up to its end, or to where it is cut off.

    A chunk whose checksum is wrong is left out if the picture can do without, as the standard has it; pixels are
    called `_DOUBTFUL`.

    Raises:
        ValueError: a chunk that the picture is made of is damaged.
    """
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        content = data[position + 8 : end]
        critical = not name[0] & 0x20
        if end + 4 > len(data):  # cut off: the pixels that are there are shown to the decoder, which tells
            if critical:
                yield name, content
            return
        if zlib.crc32(name + content) == int.from_bytes(data[end : end + 4], "big"):
            yield name, content
        elif name == b"IDAT":
            yield _DOUBTFUL, content
        elif critical:
            raise ValueError(f"the checksum of its chunk {name.decode('ascii', 'replace')} is wrong")
        if name == b"IEND":
            return
        position = end + 4


def write_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk as it is stored."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def read_png(file: str, data: bytes, check: Callable[[int, int], None]) -> Picture:
    """Read a PNG, upright.

    Args:
        file: its name, for messages.
        data: all of it.
        check: called with the width and the height before pixels are decoded; raises where there are too many.

    Raises:
        UserError: it is an animation.
        Exception: it is damaged.
    """
    chunks = list(read_chunks(data))
    found: dict[bytes, bytes] = {}
    for name, content in chunks:
        found.setdefault(name, content)
    if len(found.get(b"IHDR", b"")) != 13:
        raise ValueError("it has no header")
    check(*struct.unpack_from(">II", found[b"IHDR"]))
    frames = int.from_bytes(found.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        raise UserError(f"{file} is an animation of {frames} frames; enlarge its frames one by one.")
    pixels = _decode(chunks, found)
    texts = [chunk for chunk in chunks if chunk[0] in _TEXT]
    named: dict[bytes, bytes] = {}
    kept = []
    for chunk in texts:
        keyword, _, _ = chunk[1].partition(b"\0")
        kind = b"xmp" if keyword == _XMP else keyword.removeprefix(_RAW_PROFILE)
        if keyword not in (_XMP, _RAW_PROFILE + kind):
            kept.append(chunk)
        elif text := _text(*chunk):
            named[kind] = text if keyword == _XMP else _unhex(text)
    blocks = [named.get(b"exif", b""), named.get(b"APP1", b"")]
    iptc = (named.get(b"iptc") or named.get(b"8bim", b"")).removeprefix(b"Photoshop 3.0\0")
    exif = load_exif(found.get(b"eXIf") or next((block for block in blocks if block.startswith(b"Exif\0\0")), b""))
    xmp = named.get(b"xmp") or named.get(b"APP1", b"").partition(b"http://ns.adobe.com/xap/1.0/\0")[2]
    turn = orientation_of(exif, xmp)
    profile = _profile(found.get(b"iCCP", b"")) or named.get(b"icc") or named.get(b"icm")
    fitted, profile = fit_profile(turn_upright(pixels, turn), profile)
    colour = [(name, found[name]) for name in _COLOUR if name in found]
    return Picture(
        fitted,
        profile,
        clean_exif(exif, turn),
        clean_xmp(xmp),
        iptc if iptc.startswith(b"\x1c") else iptc_of_resources(iptc),
        turn_resolution(_resolution(found.get(b"pHYs", b"")), turn),
        chunks=(*colour, *kept),
    )


def colour_chunks(picture: Picture) -> tuple[Chunk, ...]:
    """Return the chunks that say how the colours of a PNG are meant."""
    return tuple(chunk for chunk in picture.chunks if chunk[0] in _COLOUR)


def has_colours_of_its_own(picture: Picture) -> bool:
    """Tell whether chunks that PNG alone has say that the colours are not those of sRGB."""
    found = dict(picture.chunks)
    if cicp := found.get(b"cICP"):
        return cicp[:2] not in _SRGB_CODES
    if picture.profile or b"sRGB" in found:
        return False
    gamma, primaries = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    stated = [(gamma, ">I", _SRGB_GAMMA), (primaries, ">8I", _SRGB_PRIMARIES)]
    return any(
        any(
            abs(value - usual) > _TOLERANCE for value, usual in zip(struct.unpack(layout, content), usuals, strict=True)
        )
        for content, layout, usuals in stated
        if len(content) == struct.calcsize(layout)
    )


def write_png(picture: Picture) -> Iterator[bytes]:
    """Yield the parts of a PNG.

    Raises:
        ValueError: the encoder failed.
    """
    pixels = picture.pixels
    deep = pixels.dtype == np.uint16
    grey_with_alpha = pixels.shape[2] == 2
    encoded = memoryview(_encode(pixels) if not deep else _pack(pixels) if grey_with_alpha else _encode_deep(pixels))
    header = len(SIGNATURE) + 25  # the first chunk is always as long
    yield bytes(encoded[:header])
    for chunk in _belongings(picture):
        yield write_chunk(*chunk)
    yield from (bytes(encoded[at : at + 2**20]) for at in range(header, len(encoded), 2**20))


def _belongings(picture: Picture) -> Iterator[Chunk]:
    """Yield the chunks between the header and the pixels, in the order that the standard wants."""
    colour = {name: content for name, content in picture.chunks if name in _COLOUR}
    if picture.profile:
        colour.pop(b"sRGB", None)  # the standard wants one of the two
    yield from ((name, colour[name]) for name in _COLOUR[:3] if name in colour)
    if picture.profile:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.profile)
    yield from ((name, colour[name]) for name in _COLOUR[3:] if name in colour)
    if picture.resolution:
        yield b"pHYs", _physical(picture.resolution)
    if picture.exif:
        yield b"eXIf", picture.exif.removeprefix(b"Exif\0\0")
    if picture.xmp:
        yield b"iTXt", _XMP + b"\0\0\0\0\0" + picture.xmp
    if picture.iptc:
        block = resources_of_iptc(picture.iptc)
        lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
        yield b"zTXt", _RAW_PROFILE + b"iptc\0\0" + zlib.compress(f"\niptc\n{len(block):8}\n{lines}\n".encode())
    texts = [chunk for chunk in picture.chunks if chunk[0] in _TEXT]
    yield from texts
    if picture.comment and not any(content.startswith(b"Comment\0") for _, content in texts):
        yield b"iTXt", b"Comment\0\0\0\0\0" + picture.comment.decode("utf-8", "replace").replace("\0", "").encode()


def _decode(chunks: list[Chunk], found: dict[bytes, bytes]) -> Pixels:
    """Decode the pixels from the chunks that make them, and nothing else: whatever else is damaged does no harm."""
    depth, colour = struct.unpack_from(">BB", found[b"IHDR"], 8)
    key = found.get(b"tRNS")
    needed = {b"IHDR", b"PLTE", b"IDAT", b"IEND"} | ({b"tRNS"} if colour == _PALETTE else set())
    parts = [chunk for chunk in chunks if chunk[0] in needed]
    if _DOUBTFUL in found or b"IEND" not in found:
        packed = zlib.compress(_unpack(chunks, found[b"IHDR"]), 1)
        parts = [*(part for part in parts if part[0] not in (b"IDAT", b"IEND")), (b"IDAT", packed), (b"IEND", b"")]
    stream = io.BytesIO()
    stream.write(SIGNATURE)
    for part in parts:
        stream.write(write_chunk(*part))
    stream.seek(0)
    with PngImagePlugin.PngImageFile(stream) as image:
        image.load()
        last = image.crop((0, image.height - 1, *image.size))
        if not np.asarray(last).any() or found[b"IHDR"][12]:  # rows and passes that are missing are left black
            _unpack(parts, found[b"IHDR"])
        if depth == 16 and image.mode != "I;16":
            pixels = _decode_deep(stream.getvalue(), image.mode)
        elif image.mode == "P":
            pixels = np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
        else:
            pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if colour in (_GREY, _RGB) and key and len(key) >= 2 * pixels.shape[2]:
        whole = np.iinfo(pixels.dtype).max
        # samples of less than 8 bits are stretched to 8, and so is the colour that stands for nothing
        transparent = np.array(struct.unpack_from(f">{pixels.shape[2]}H", key)) * whole // (2**depth - 1)
        opaque = np.any(pixels != transparent, axis=2, keepdims=True)
        pixels = np.concatenate([pixels, (opaque * whole).astype(pixels.dtype)], axis=2)
    return pixels


def _unpack(chunks: list[Chunk], header: bytes) -> bytes:
    """Unpack the stream of the pixels.

    Raises:
        ValueError: rows are missing, or a checksum is wrong and the one of the stream does not make up for it.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    needed = 0
    for top, left, down, across in _PASSES if interlaced else _WHOLE:
        rows, columns = len(range(top, height, down)), len(range(left, width, across))
        needed += rows * (1 + (columns * depth * _SAMPLES.get(colour, 1) + 7) // 8) if columns else 0
    unpacking = zlib.decompressobj()
    packed = b"".join(content for name, content in chunks if name in (b"IDAT", _DOUBTFUL))
    unpacked = unpacking.decompress(packed, needed)
    if len(unpacked) < needed:
        raise ValueError("a part of the picture is missing")
    if any(name == _DOUBTFUL for name, _ in chunks):
        while not unpacking.eof and unpacking.unconsumed_tail:
            unpacking.decompress(unpacking.unconsumed_tail, 2**20)
        if not unpacking.eof:
            raise ValueError("the checksum of its chunk IDAT is wrong")
    return unpacked


def _decode_deep(data: bytes, mode: str) -> Pixels:
    """Decode 16 bits per channel of RGB, with or without alpha, or of grey with alpha, which OpenCV returns as RGBA."""
    pixels = decode_deep(data)
    if pixels.dtype != np.uint16 or pixels.shape[2] < 3:
        raise ValueError("OpenCV cannot decode it")
    return pixels[..., [0, 3]] if mode in ("LA", "RGBA") and _is_grey_with_alpha(data) else pixels


def _is_grey_with_alpha(data: bytes) -> bool:
    return data[len(SIGNATURE) + 17] == 4  # the type of colour in the header


def _encode(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    return stream.getvalue()


def _encode_deep(pixels: Pixels) -> bytes:
    """Encode 16 bits per channel, which Pillow can do of grey alone."""
    import cv2

    ordered = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] > 1 else pixels
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(ordered))
    if not done:
        raise ValueError("OpenCV gave up")
    return bytes(encoded)


def _pack(pixels: Pixels) -> bytes:
    """Encode grey with alpha of 16 bits, which no library writes, each row as its difference from the one above."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b""))
    return SIGNATURE + b"".join(write_chunk(*chunk) for chunk in chunks)


def _profile(chunk: bytes) -> bytes | None:
    _, _, rest = chunk.partition(b"\0")
    return _inflate(rest[1:])


def _inflate(packed: bytes) -> bytes | None:
    with suppress(zlib.error):
        unpacking = zlib.decompressobj()
        unpacked = unpacking.decompress(packed, _LARGEST_UNPACKED)
        return unpacked if unpacking.eof else None
    return None


def _text(name: bytes, content: bytes) -> bytes | None:
    """Return the text of a chunk, unpacked."""
    _, _, rest = content.partition(b"\0")
    if name == b"tEXt":
        return rest
    if name == b"zTXt":
        return _inflate(rest[1:])
    parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
    return None if len(parts) < 3 else _inflate(parts[2]) if rest[:1] == b"\1" else parts[2]


def _unhex(text: bytes) -> bytes:
    """Decode what ImageMagick and ExifTool store: a line with a name, one with a length, and hexadecimal digits."""
    with suppress(ValueError):
        _, _, rest = text.lstrip().partition(b"\n")
        return bytes.fromhex(b"".join(rest.split()[1:]).decode("ascii", "replace"))
    return b""


def _resolution(chunk: bytes) -> Resolution | None:
    if len(chunk) != 9:
        return None
    x, y, unit = struct.unpack(">IIB", chunk)
    found = Resolution(x / _CENTIMETRES, y / _CENTIMETRES, "cm") if unit == 1 else Resolution(x, y, "")
    return found if found.says_something() else None


def _physical(resolution: Resolution) -> bytes:
    ratio = 1 if resolution.x % 1 == resolution.y % 1 == 0 else 1000
    factor = {"cm": _CENTIMETRES, "inch": _CENTIMETRES / INCH, "": ratio}[resolution.unit]
    sides = (min(max(round(side * factor), 1), 2**31 - 1) for side in (resolution.x, resolution.y))
    return struct.pack(">IIB", *sides, 1 if resolution.unit else 0)
