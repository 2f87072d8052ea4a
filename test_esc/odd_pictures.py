"""Small pictures in every form that Pillow, tifffile and OpenCV write, some by hand, each with what is to be seen."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, features

Array = np.ndarray[Any, Any]
HEIGHT, WIDTH = 9, 7
ORIENTATIONS = range(1, 9)


@dataclass(frozen=True)
class Odd:
    """A file and the upright picture in it.

    Args:
        name: tells how it was written; ends in the suffix.
        data: the file.
        seen: (H, W, C) in [0, 1], grey or RGB, with or without alpha, which is not multiplied into the colours.
        off: how far the pixels may be from it, more than rounding where a format is lossy.
    """

    name: str
    data: bytes
    seen: Array
    off: float = 0.0


def numbers(channels: int, whole: int, seed: int = 0) -> Array:
    """(HEIGHT, WIDTH, channels) whole numbers up to `whole`; black, white, transparent and opaque are among them."""
    values = np.random.default_rng(seed).integers(0, whole + 1, (HEIGHT, WIDTH, channels), np.uint64)
    values[0, 0], values[0, 1], values[1, 0, -1], values[1, 1, -1] = 0, whole, 0, whole
    return values


def turned(stored: Array, orientation: int) -> Array:
    """What is to be seen of pixels that are stored in an orientation of EXIF or TIFF."""
    rows = {1: 0, 2: 0, 3: 2, 4: 2, 5: 0, 6: 3, 7: 2, 8: 1}[orientation]  # quarter turns against the clock
    if orientation in (5, 7):
        return np.rot90(stored, rows).swapaxes(0, 1)
    return np.rot90(stored[:, ::-1] if orientation in (2, 4) else stored, rows)


def visible(pixels: Array) -> Array:
    """Colours laid on white; what is under transparent pixels may change."""
    if pixels.shape[2] in (1, 3):
        return pixels
    return np.concatenate([pixels[..., :-1] * pixels[..., -1:] + 1 - pixels[..., -1:], pixels[..., -1:]], axis=2)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def image_of(pixels: Array, mode: str) -> Image.Image:
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())


def tiffs_of_tifffile() -> Iterator[Odd]:
    """Every type, meaning of zero, sort of alpha, order of planes and bytes, and orientation; the rest takes turns."""
    compressions = [None, "zlib", "lzma", "zlib"]
    layouts: list[dict[str, Any]] = [{}, {"rowsperstrip": 4}, {"tile": (16, 16)}]
    turns = itertools.count()
    alphas = [None, "unassalpha", "assocalpha", "unspecified"]
    for dtype, photometric, alpha, planar, order, orientation in itertools.product(
        ["u1", "u2", "u4", "f2", "f4", "f8", "i1", "i2"],
        ["minisblack", "miniswhite", "rgb"],
        alphas,
        ["contig", "separate"],
        "<>",
        ORIENTATIONS,
    ):
        colours = 3 if photometric == "rgb" else 1
        channels = colours + (alpha is not None)
        if (channels == 1 and planar == "separate") or (photometric == "miniswhite" and alpha == "assocalpha"):
            continue
        turn = next(turns)
        kind, bits = dtype[0], 8 * int(dtype[1])
        if kind != "u" and (turn + orientation) % 3:  # a third of what is rare
            continue
        whole = 2**bits - 1 if kind == "u" else 2 ** (bits - 1) - 1 if kind == "i" else 1
        parts = numbers(channels, 2**12 - 1).astype(float) / (2**12 - 1)
        if alpha == "assocalpha":
            parts[..., :-1] *= parts[..., -1:]
        stored = parts * whole if kind == "f" else (parts * whole).round()
        tags: list[tuple[int, str, int, Any, bool]] = [(274, "H", 1, orientation, True)]
        if kind == "i":  # signed numbers mean nothing without a range
            lowest = -(2 ** (bits - 1))
            stored = (lowest + parts * (2**bits - 1)).round()
            tags += [(340, dtype[0:1].replace("i", "b" if bits == 8 else "h"), channels, (lowest,) * channels, True)]
            tags += [(341, dtype[0:1].replace("i", "b" if bits == 8 else "h"), channels, (whole,) * channels, True)]
            parts = (stored - lowest) / (2**bits - 1)
        else:
            stored = stored.astype(dtype)
            parts = stored.astype(float) / whole
        seen = parts.copy()
        if alpha == "assocalpha":
            with np.errstate(divide="ignore", invalid="ignore"):
                seen[..., :-1] = np.where(parts[..., -1:] > 0, parts[..., :-1] / parts[..., -1:], 0).clip(0, 1)
        if photometric == "miniswhite":
            seen[..., 0] = 1 - seen[..., 0]
        if alpha == "unspecified":
            seen = seen[..., :-1]
        data = stored.astype(dtype)
        compression = compressions[turn % len(compressions)]
        predictor = turn % len(compressions) == 3 and kind == "u" and planar == "contig"
        stream = io.BytesIO()
        tifffile.imwrite(
            stream,
            data[..., 0] if channels == 1 else np.moveaxis(data, -1, 0) if planar == "separate" else data,
            photometric=photometric,
            planarconfig=None if channels == 1 else planar,
            extrasamples=None if alpha is None else [alpha],
            byteorder=order,
            bigtiff=turn % 7 == 0,
            compression=compression,
            predictor=predictor or None,
            metadata=None,
            extratags=tags,
            **layouts[turn % len(layouts)],
        )
        name = f"tifffile_{dtype}_{photometric}_{alpha}_{planar}_{order}_{orientation}_{compression}_{predictor}.tif"
        name = name.replace("<", "little").replace(">", "big")
        rounded_twice = alpha == "assocalpha" and dtype not in ("u1", "u2")  # to 16 bits, and when divided by alpha
        off = 1 / 65535 if rounded_twice else 0.0
        yield Odd(name, stream.getvalue(), turned(seen, orientation), off)


def tiffs_by_hand() -> Iterator[Odd]:
    """Any number of bits, grey, white-is-zero, RGB and palette, in both orders of bytes and of bits."""
    for bits, photometric, order, fill_order in itertools.product(range(1, 17), [0, 1, 2, 3], "<>", [1, 2]):
        if photometric == 3 and bits > 8:
            continue
        samples = 3 if photometric == 2 else 1
        whole = 2**bits - 1
        values = numbers(samples, whole)
        lines = b""
        for line in values.reshape(HEIGHT, -1):
            digits = "".join(format(int(value), f"0{bits}b") for value in line)
            digits += "0" * (-len(digits) % 8)
            lines += int(digits, 2).to_bytes(len(digits) // 8, "big")
        if bits == 16:
            lines = values.astype(f"{order}u2").tobytes()
        if fill_order == 2:
            lines = bytes(int(f"{byte:08b}"[::-1], 2) for byte in lines)
        palette = np.random.default_rng(bits).integers(0, 256, (3, whole + 1)) * 257
        tags: list[tuple[int, int, tuple[int, ...]]] = [
            (256, 3, (WIDTH,)),
            (257, 3, (HEIGHT,)),
            (258, 3, (bits,) * samples),
            (259, 3, (1,)),
            (262, 3, (photometric,)),
            (266, 3, (fill_order,)),
            (273, 4, (8,)),
            (277, 3, (samples,)),
            (278, 3, (HEIGHT,)),
            (279, 4, (len(lines),)),
        ]
        if photometric == 3:
            tags.append((320, 3, tuple(int(part) for part in palette.ravel())))
        content = lines + bytes(len(lines) % 2)
        entries, more = b"", b""
        after = 8 + len(content) + 2 + 12 * len(tags) + 4
        for code, kind, parts in tags:
            packed = struct.pack(f"{order}{len(parts)}{'H' if kind == 3 else 'I'}", *parts)
            if len(packed) > 4:
                field, more = struct.pack(f"{order}I", after + len(more)), more + packed + bytes(len(packed) % 2)
            else:
                field = packed.ljust(4, b"\0")
            entries += struct.pack(f"{order}HHI", code, kind, len(parts)) + field
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content))
        data = head + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more
        seen = values.astype(float) / whole
        seen = 1 - seen if photometric == 0 else palette.T[values[..., 0]] / 65535 if photometric == 3 else seen
        yield Odd(f"hand_{bits}_bits_{photometric}_{'IM'['<>'.index(order)]}_{fill_order}.tif", data, seen)


def tiffs_of_pillow() -> Iterator[Odd]:
    """Every mode and compression of Pillow's."""
    rgb = image_of(numbers(3, 255).astype("u1"), "RGB")
    deep = numbers(1, 65535).astype("u2")
    grey = numbers(1, 255).astype("u1")
    rgba = numbers(4, 255).astype("u1")
    cmyk = numbers(4, 255).astype("u1")
    palette = rgb.quantize(13)
    multiplied = image_of(rgba, "RGBA").convert("RGBa")
    pictures: dict[str, tuple[Image.Image, Array]] = {
        "1": (image_of(grey, "L").convert("1"), np.asarray(image_of(grey, "L").convert("1"))[..., None].astype(float)),
        "L": (image_of(grey, "L"), grey / 255),
        "LA": (image_of(rgba[..., [0, 3]], "LA"), rgba[..., [0, 3]] / 255),
        "P": (palette, np.asarray(palette.convert("RGB")) / 255),
        "RGB": (rgb, np.asarray(rgb) / 255),
        "RGBA": (image_of(rgba, "RGBA"), rgba / 255),
        "RGBX": (image_of(rgba, "RGBX"), rgba[..., :3] / 255),
        "CMYK": (image_of(cmyk, "CMYK"), np.asarray(image_of(cmyk, "CMYK").convert("RGB")) / 255),
        "I;16": (image_of(deep, "I;16"), deep / 65535),
        "I;16B": (image_of(deep.astype(">u2"), "I;16B"), deep / 65535),
        "F": (Image.fromarray((deep[..., 0] / 65535).astype("f4")), deep / 65535),
        "RGBa": (multiplied, np.asarray(multiplied.convert("RGBA")) / 255),
    }
    compressions = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg", "group3", "group4"]
    for (mode, (image, seen)), compression, orientation in itertools.product(
        pictures.items(), compressions, ORIENTATIONS
    ):
        lossy = compression == "jpeg"
        if compression in ("group3", "group4") and mode != "1":
            continue
        if lossy and mode not in ("L", "RGB"):
            continue
        if lossy:  # colours that JPEG keeps
            image = Image.new(mode, image.size, 90 if mode == "L" else (90, 140, 200))
            seen = np.asarray(image).reshape(HEIGHT, WIDTH, -1) / 255
        big = orientation == 3 and mode != "I;16B"  # which Pillow itself cannot read
        options: dict[str, Any] = {"tiffinfo": {274: orientation}, "big_tiff": big}
        if compression:
            options["compression"] = compression
        try:
            data = saved(image, "TIFF", **options)
        except OSError:  # this libtiff was built without it
            continue
        name = f"pillow_{mode}_{compression}_{orientation}.tif".replace(";", "_")
        yield Odd(name, data, turned(seen, orientation), 0.02 if lossy or mode == "RGBa" else 0.0)


def pngs() -> Iterator[Odd]:
    """Every colour type, depth, transparency and interlace of PNG, by hand."""
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    samples_of = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    for colour, samples in samples_of.items():
        for depth, interlaced, keyed, orientation in itertools.product(
            depths[colour], (0, 1), (0, 1) if colour < 4 else (0,), ORIENTATIONS
        ):
            whole = 2**depth - 1
            values = numbers(samples, whole, seed=depth)
            rows = b""
            for top, left, down, right in passes if interlaced else [(0, 0, 1, 1)]:
                part = values[top::down, left::right]
                for row in part if part.size else ():
                    flat = row.reshape(-1)
                    if depth == 16:
                        packed = flat.astype(">u2").tobytes()
                    else:
                        digits = (flat[:, None] >> np.arange(depth - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
                        packed = np.packbits(digits.astype(np.uint8).ravel()).tobytes()
                    rows += b"\0" + packed
            data = b"\x89PNG\r\n\x1a\n"
            data += chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced))
            seen = values.astype(float) / whole
            if colour == 3:
                palette = np.random.default_rng(depth).integers(0, 256, (whole + 1, 3)).astype(np.uint8)
                data += chunk(b"PLTE", palette.tobytes())
                seen = palette[values[..., 0]] / 255
            if keyed and colour == 3:
                alphas = np.random.default_rng(9).integers(0, 256, max(whole // 2, 1)).astype(np.uint8)
                data += chunk(b"tRNS", alphas.tobytes())
                table = np.full(whole + 1, 255)
                table[: len(alphas)] = alphas
                seen = np.concatenate([seen, table[values] / 255], axis=2)
            elif keyed:
                key = values[4, 3]
                data += chunk(b"tRNS", key.astype(">u2").tobytes())
                seen = np.concatenate([seen, np.any(values != key, axis=2, keepdims=True)], axis=2)
            data += chunk(b"eXIf", exif_of(orientation).tobytes().removeprefix(b"Exif\0\0"))
            data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
            yield Odd(f"{colour}_{depth}_{interlaced}_{keyed}_{orientation}.png", data, turned(seen, orientation))


def jpegs() -> Iterator[Odd]:
    """Grey, YCbCr, RGB, CMYK, progressive or not, each sort of sampling and orientation."""
    blocks = np.repeat(np.repeat(numbers(4, 255).astype("u1")[:3, :2], 16, axis=0), 16, axis=1)
    for mode, progressive, sampling, orientation in itertools.product(
        ["L", "RGB", "CMYK", "keep"], (False, True), ["4:4:4", "4:2:2", "4:2:0"], ORIENTATIONS
    ):
        kind = "RGB" if mode == "keep" else mode
        grey = sampling != "4:4:4" and mode != "L"  # where colours are sampled coarsely, brightness alone is sharp
        image = image_of(blocks[..., [0, 0, 0, 0] if grey else [0, 1, 2, 3]][..., : len(kind)], kind)
        options: dict[str, Any] = {"quality": 100, "progressive": progressive, "exif": exif_of(orientation)}
        if mode in ("keep", "CMYK") and sampling != "4:4:4":
            continue
        if kind != "L":
            options["subsampling"] = sampling
        data = saved(image, "JPEG", keep_rgb=mode == "keep", **options)
        seen = np.asarray(image.convert("RGB") if mode == "CMYK" else image).reshape(48, 32, -1) / 255
        yield Odd(
            f"{mode}_{progressive}_{sampling.replace(':', '')}_{orientation}.jpg", data, turned(seen, orientation), 0.03
        )


def modern() -> Iterator[Odd]:
    """WebP without loss, JPEG 2000, AVIF, GIF."""
    rgba, deep = numbers(4, 255).astype("u1"), numbers(1, 65535).astype("u2")
    channels = {"L": [0], "LA": [0, 3], "RGB": [0, 1, 2], "RGBA": [0, 1, 2, 3]}
    for mode, orientation in itertools.product(["RGB", "RGBA"], ORIENTATIONS):
        part = rgba[..., channels[mode]]
        data = saved(image_of(part, mode), "WEBP", lossless=True, exact=True, exif=exif_of(orientation))
        yield Odd(f"{mode}_{orientation}.webp", data, turned(part / 255, orientation))
    for mode, tiles in itertools.product([*channels, "I;16"], (False, True)):
        part = deep if mode == "I;16" else rgba[..., channels[mode]]
        options = {"tile_size": (128, 128)} if tiles else {}
        for suffix, plain in ((".jp2", False), (".j2k", True)):
            data = saved(image_of(part, mode), "JPEG2000", no_jp2=plain, **options)
            yield Odd(f"{mode.replace(';', '')}_{tiles}{suffix}", data, part / (65535 if mode == "I;16" else 255))
    if features.check("avif"):
        for mode, orientation in itertools.product(["L", "RGB", "RGBA"], ORIENTATIONS):
            flat = np.broadcast_to(np.array([200, 90, 40, 170], "u1")[channels[mode]], (16, 24, len(mode)))
            data = saved(image_of(flat, mode), "AVIF", quality=95, subsampling="4:4:4", exif=exif_of(orientation))
            seen = turned(np.repeat(flat, 3, axis=2) if mode == "L" else flat, orientation) / 255
            yield Odd(f"{mode}_{orientation}.avif", data, seen, 0.03)
    palette = image_of(rgba[..., :3], "RGB").quantize(16)
    colours = np.asarray(palette.convert("RGB")) / 255
    yield Odd("P.gif", saved(palette, "GIF"), colours)
    for interlaced in (0, 1):
        data = saved(palette, "GIF", transparency=3, interlace=interlaced)
        opaque = (np.asarray(palette) != 3).astype(float)[..., None]
        yield Odd(f"transparent_{interlaced}.gif", data, np.concatenate([colours, opaque], axis=2))
    yield Odd("L.gif", saved(image_of(rgba[..., :1], "L"), "GIF"), np.repeat(rgba[..., :1], 3, axis=2) / 255)


def bmps() -> Iterator[Odd]:
    """What Pillow writes, and by hand: bit fields of every sort, rows from top to bottom, run lengths."""
    rgb = numbers(3, 255).astype("u1")
    image = image_of(rgb, "RGB")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        stored = image.quantize(16) if mode == "P" else image.convert(mode)
        seen = np.asarray(stored.convert("RGB") if mode == "P" else stored).astype(float)
        seen = seen.reshape(HEIGHT, WIDTH, -1)[..., :3] / (1 if mode == "1" else 255)  # the fourth byte says nothing
        yield Odd(f"pillow_{mode}.bmp", saved(stored, "BMP"), seen)
        yield Odd(f"pillow_{mode}.dib", saved(stored, "DIB"), seen)  # without the header of a file
    layouts = {
        "565": (16, (5, 6, 5, 0)),
        "555": (16, (5, 5, 5, 0)),
        "8888": (32, (8, 8, 8, 8)),
        "8880": (32, (8, 8, 8, 0)),
    }
    for (name, (bits, widths)), upwards in itertools.product(layouts.items(), (True, False)):
        values = np.stack(
            [numbers(1, 2**width - 1, seed=index)[..., 0] for index, width in enumerate(widths) if width], 2
        )
        pixels = np.zeros((HEIGHT, WIDTH), np.uint64)
        masks, shift = [], 0
        for index in (2, 1, 0, 3):  # blue in the lowest bits
            width = widths[index]
            masks.append((index, (2**width - 1) << shift))
            if width:
                pixels |= values[..., index] << np.uint64(shift)
            shift += width
        rows = pixels[::-1] if upwards else pixels
        packed = b"".join((line := row.astype(f"<u{bits // 8}").tobytes()) + bytes(-len(line) % 4) for row in rows)
        header = struct.pack(
            "<IiiHHIIiiII", 108, WIDTH, HEIGHT if upwards else -HEIGHT, 1, bits, 3, len(packed), 0, 0, 0, 0
        )
        header += struct.pack("<4I", *(mask for _, mask in sorted(masks))) + b"BGRs" + bytes(48)
        data = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(packed), 0, 0, 14 + len(header)) + header + packed
        yield Odd(f"fields_{name}_{upwards}.bmp", data, values / (2.0 ** np.array([w for w in widths if w]) - 1), 0.02)


def of_opencv() -> Iterator[Odd]:
    """Every suffix, type and number of channels that OpenCV writes without loss."""
    kinds: dict[str, list[tuple[str, tuple[int, ...]]]] = {
        ".png": [("u1", (1, 3, 4)), ("u2", (1, 3, 4))],
        ".tif": [("u1", (1, 3, 4)), ("u2", (1, 3, 4)), ("f4", (1, 3)), ("f8", (1, 3))],
        ".bmp": [("u1", (1, 3, 4))],
        ".jp2": [("u1", (1, 3)), ("u2", (1, 3))],
        ".pgm": [("u1", (1,)), ("u2", (1,))],
        ".ppm": [("u1", (3,)), ("u2", (3,))],
        ".pnm": [("u1", (1, 3)), ("u2", (1, 3))],
        ".pam": [("u1", (1, 3, 4)), ("u2", (1, 3))],
        ".pfm": [("f4", (1, 3))],
    }
    settings: dict[str, list[list[int]]] = {
        ".tif": [[cv2.IMWRITE_TIFF_COMPRESSION, number] for number in (1, 5, 8, 32773)],
        ".jp2": [[cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]],
        ".pgm": [[cv2.IMWRITE_PXM_BINARY, 1], [cv2.IMWRITE_PXM_BINARY, 0]],
        ".ppm": [[cv2.IMWRITE_PXM_BINARY, 1], [cv2.IMWRITE_PXM_BINARY, 0]],
    }
    for suffix, types in kinds.items():
        for (dtype, counts), setting in itertools.product(types, settings.get(suffix, [[]])):
            for channels in counts:
                whole = {"u1": 255, "u2": 65535}.get(dtype, 1)
                seen = numbers(channels, 4095).astype(float) / 4095
                if suffix == ".jp2":  # its encoder wants more pixels
                    seen = np.tile(seen, (8, 8, 1))
                stored = (seen * whole if dtype[0] == "f" else (seen * whole).round()).astype(dtype)
                turns_round = channels > 1 and suffix != ".pam"  # there OpenCV stores what it is given
                ordered = stored[..., [2, 1, 0, 3][:channels]] if turns_round else stored
                done, data = cv2.imencode(suffix, ordered, setting)
                assert done
                yield Odd(f"cv2_{dtype}_{channels}_{setting}{suffix}", bytes(data), stored / whole)


FAMILIES: dict[str, Callable[[], Iterator[Odd]]] = {
    "TIFF of tifffile": tiffs_of_tifffile,
    "TIFF by hand": tiffs_by_hand,
    "TIFF of Pillow": tiffs_of_pillow,
    "PNG": pngs,
    "JPEG": jpegs,
    "WebP, JPEG 2000, AVIF, GIF": modern,
    "BMP": bmps,
    "OpenCV": of_opencv,
}
