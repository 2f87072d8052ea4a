"""ICC profiles that fit the number of colours that are stored."""

from __future__ import annotations

import io
import struct
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from esc_arch.pictures.picture import Pixels

# bytes of ICC.1, section 7.2: header, colour space, connection space, entry of a table
_HEADER, _SPACE, _CONNECTION, _ENTRY = 128, slice(16, 20), slice(20, 24), 12
_SHARED_TAGS = (b"desc", b"cprt", b"wtpt", b"chad")  # of a grey profile and one for RGB
_PRIMARIES = {  # of sRGB, as seen under D50
    b"rXYZ": (0.4360747, 0.2225045, 0.0139322),
    b"gXYZ": (0.3850649, 0.7168786, 0.0971045),
    b"bXYZ": (0.1430804, 0.0606169, 0.7141733),
}


def fit_profile(pixels: Pixels, profile: bytes | None) -> tuple[Pixels, bytes | None]:
    """Make a profile and the number of colours agree.

    A grey profile of pixels stored as RGB makes them grey, if they are. An RGB profile of grey pixels becomes the grey
    one with the same curve. A profile for anything else is wrong here, and is dropped.

    Args:
        pixels: (H, W, C), grey or RGB, with or without alpha.
        profile: what came with them.

    Returns:
        the pixels, and the profile or None.
    """
    space = (profile or b"")[_SPACE]
    if not profile or len(profile) < _HEADER + 4 or profile[36:40] != b"acsp":
        return pixels, None
    if pixels.shape[2] < 3:
        return pixels, profile if space == b"GRAY" else _grey_of_rgb(profile) if space == b"RGB " else None
    if space == b"GRAY" and (pixels[..., :1] == pixels[..., 1:3]).all():
        return pixels[..., [0] if pixels.shape[2] == 3 else [0, 3]], profile
    return pixels, profile if space == b"RGB " else None


def _grey_of_rgb(profile: bytes) -> bytes | None:
    """Build the grey profile (ICC.1, section 8.3.2) whose curve is the green one of an RGB profile."""
    tags = _tags(profile)
    return _rebuilt(profile, b"GRAY", {b"kTRC": tags[b"gTRC"]}) if b"gTRC" in tags else None


def fit_colours(pixels: Pixels, profile: bytes | None) -> tuple[Pixels, bytes | None]:
    """Make a grey profile fit for a format that stores grey as RGB.

    Args:
        pixels: (H, W, C) uint8, as they are before they are repeated.
        profile: of their colours.

    Returns:
        the pixels, with an RGB profile of the same curve (ICC.1, section 8.3.3); or converted to sRGB, without one.
    """
    if profile is None or profile[_SPACE] != b"GRAY":
        return pixels, profile
    tags = _tags(profile)
    if profile[_CONNECTION] != b"XYZ " or b"kTRC" not in tags:
        return pixels_to_srgb(pixels, profile), None
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tags[b"kTRC"])
    primaries = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(part * 2**16) for part in parts))
        for name, parts in _PRIMARIES.items()
    }
    return pixels, _rebuilt(profile, b"RGB ", primaries | curves)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile, none of one that is damaged."""
    tags = {}
    try:
        (count,) = struct.unpack_from(">I", profile, _HEADER)
        for index in range(min(count, 100)):
            name, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + _ENTRY * index)
            tags[name] = profile[start : start + size]
    except struct.error:
        return {}
    return tags


def _rebuilt(profile: bytes, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Build a profile for another space of colours, with these tags and those of `_SHARED_TAGS`."""
    stored = _tags(profile)
    kept = {name: stored[name] for name in _SHARED_TAGS if name in stored} | tags
    table, content, start = b"", b"", _HEADER + 4 + _ENTRY * len(kept)
    for name, data in kept.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    body = profile[:_HEADER] + struct.pack(">I", len(kept)) + table + content
    identity = bytes(16)  # a checksum of the other profile
    return struct.pack(">I", len(body)) + body[4:16] + space + body[20:84] + identity + body[100:]


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert CMYK, Lab or RGB of 8 bits to sRGB, by the profile where there is one that can be used."""
    if profile is not None or image.mode == "LAB":
        try:
            lab = image.mode == "LAB"
            source = ImageCms.createProfile("LAB") if lab else ImageCms.getOpenProfile(io.BytesIO(profile or b""))
            return _convert(image, source)
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def cmyk_to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    """Convert CMYK to sRGB with 8 bits, since colour management knows no more here; alpha stays.

    Args:
        pixels: (H, W, 4 or more), uint8 or uint16, 0 for no ink.
        profile: of the inks.
    """
    whole = np.iinfo(pixels.dtype).max
    eight = pixels if whole == 255 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = Image.frombytes("CMYK", (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(eight[..., :4]).tobytes())
    return np.concatenate([np.asarray(to_srgb(image, profile)), eight[..., 4:]], axis=2)


def _convert(image: Image.Image, source: Any) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    return cast(Image.Image, ImageCms.profileToProfile(image, source, target, outputMode="RGB"))


def pixels_to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    """Convert pixels for a format that holds no profile; (H, W, C) uint8."""
    if profile is None:
        return pixels
    colours = 1 if pixels.shape[2] < 3 else 3
    if colours == 1:
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        try:
            image = _convert(image, ImageCms.getOpenProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError):
            return pixels
        converted = np.asarray(image)[..., :1]
    else:
        converted = np.asarray(to_srgb(Image.fromarray(np.ascontiguousarray(pixels[..., :3])), profile))
    return np.concatenate([converted, pixels[..., colours:]], axis=2)
