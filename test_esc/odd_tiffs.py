"""Small TIFFs in every form that Pillow and tifffile write, and by hand, each with what is to be seen."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from odd_pictures import HEIGHT, ORIENTATIONS, WIDTH, Array, Odd, image_of, numbers, saved, turned
from PIL import Image


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
