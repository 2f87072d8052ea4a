"""ICC profiles that fit the number of colours that are stored."""

from __future__ import annotations

import io
import struct
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from esc_arch.pictures.picture import Pixels

_HEADER, _SPACE, _ENTRY = 128, slice(16, 20), 12  # bytes of ICC.1, section 7.2: header, colour space, entry of a table
_GREY_TAGS = (b"desc", b"cprt", b"wtpt", b"chad")  # what a grey profile shares with one for RGB


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
    try:
        (count,) = struct.unpack_from(">I", profile, _HEADER)
        tags = {}
        for index in range(min(count, 100)):
            name, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + _ENTRY * index)
            tags[name] = profile[start : start + size]
        kept = {name: tags[name] for name in _GREY_TAGS if name in tags} | {b"kTRC": tags[b"gTRC"]}
    except (struct.error, KeyError):
        return None
    table, content, start = b"", b"", _HEADER + 4 + _ENTRY * len(kept)
    for name, data in kept.items():
        table += struct.pack(">4sII", name, start + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    body = profile[:_HEADER] + struct.pack(">I", len(kept)) + table + content
    identity = bytes(16)  # a checksum of the other profile
    return struct.pack(">I", len(body)) + body[4:16] + b"GRAY" + body[20:84] + identity + body[100:]


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
