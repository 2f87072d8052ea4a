"""Small pictures in every form that Pillow, tifffile and OpenCV write, some by hand, each with what is to be seen."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from odd_pictures import HEIGHT, ORIENTATIONS, WIDTH, Odd, chunk, exif_of, image_of, numbers, saved, turned
from odd_tiffs import tiffs_by_hand, tiffs_of_pillow, tiffs_of_tifffile
from PIL import features


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
