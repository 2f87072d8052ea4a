"""Older formats, where Pillow decodes something else than was meant, or says nothing of what it decides."""

from __future__ import annotations

import struct

import numpy as np

from esc_arch.pictures.picture import Pixels

_BMP_HEADER = 14  # bytes
_SUN_HEADER, _SUN_RGB = 32, 3  # bytes; type of file
_TGA_MAP, _TGA_MAP_BITS, _TGA_BITS, _TGA_ALPHA = 1, 7, 16, 17  # bytes of the header
_SGI_SIZE, _SGI_HEADER = 3, 512  # byte that holds the bytes of a channel; bytes before the pixels
_DDS_FACES, _DDS_VOLUME = 0xFC00, 0x200000  # bits of dwCaps2
_DDS_CUBE, _DDS_SOLID = 4, 4  # a bit of miscFlag; a value of resourceDimension
_GIF_SCREEN, _GIF_EXTENSION, _GIF_FRAME = 13, 0x21, 0x2C  # bytes of header and screen; what blocks begin with


def mend(data: bytes, image_format: str, pixels: Pixels, notes: list[str]) -> Pixels:
    """Put right what Pillow has decoded.

    Args:
        data: the file, as `esc_arch.pictures.rewriting.made_known` leaves it.
        image_format: as in `esc_arch.pictures.formats.FORMATS`.
        pixels: (H, W, C) uint8.
        notes: gets a sentence where something was decided that might be missed.

    Returns:
        (H, W, 1 to 4), uint8 or uint16.

    Raises:
        ValueError: the file is damaged.
    """
    if image_format == "XBM":  # a bit that is set is ink
        return 255 - pixels
    if image_format == "SUN" and data[12:16] == b"\0\0\0\x20":
        return _sun_of_32_bits(data, notes)
    if image_format == "SGI" and data[_SGI_SIZE] == 2:
        return _deep_sgi(data, pixels.shape)
    if image_format == "GIF":
        return _with_margin(data, pixels)
    if image_format == "ICO" and pixels.shape[2] == 4 and not pixels[..., 3].any():  # nobody draws nothing
        return pixels[..., :3]
    if image_format == "TGA":
        return _with_alpha_of_tga(data, pixels)
    if image_format == "BMP":
        bits, compression = struct.unpack_from("<HI", data, _BMP_HEADER + 14)
        if bits == 32 and compression == 0 and pixels.shape[2] == 3:
            first = int.from_bytes(data[10:14], "little")
            _note_fourth_byte(data[first : first + 4 * pixels.shape[0] * pixels.shape[1]][3::4], notes)
    return pixels


def pictures_of_dds(data: bytes) -> int:
    """Return how many pictures a DDS holds, of which Pillow shows the first; its smaller copies (mipmaps) do not count.

    Raises:
        struct.error: the header is cut off.
    """
    (depth,) = struct.unpack_from("<I", data, 24)
    (kinds,) = struct.unpack_from("<I", data, 112)
    count = (kinds & _DDS_FACES).bit_count() or 1
    if kinds & _DDS_VOLUME:
        count = max(depth, 1)
    if data[84:88] == b"DX10":
        dimension, of_a_cube, listed = struct.unpack_from("<3I", data, 132)
        count = max(count, 6 if of_a_cube & _DDS_CUBE else 1, depth if dimension == _DDS_SOLID else 1) * max(listed, 1)
    return count


def _note_fourth_byte(fourth: bytes, notes: list[str]) -> None:
    """Tell where the fourth byte of a pixel, which is said to be nothing, looks like alpha."""
    if fourth and fourth.count(fourth[:1]) < len(fourth):
        notes.append("the fourth byte of its pixels is not said to be alpha, and left")


def _with_alpha_of_tga(data: bytes, pixels: Pixels) -> Pixels:
    """Decide what is alpha.

    A fourth byte is, as most writers mean it, unless it is not declared and all would be transparent. A sixteenth bit
    is where it is declared, and says where the picture is opaque, which Pillow has the other way round.
    """
    if pixels.shape[2] != 4:
        return pixels
    declared = data[_TGA_ALPHA] & 15
    if data[_TGA_MAP] == 1 and data[_TGA_MAP_BITS] == 16:
        return pixels[..., :3]
    if data[_TGA_BITS] == 16:
        return np.concatenate([pixels[..., :3], 255 - pixels[..., 3:]], axis=2) if declared else pixels[..., :3]
    return pixels if declared or pixels[..., 3].any() else pixels[..., :3]


def _sun_of_32_bits(data: bytes, notes: list[str]) -> Pixels:
    """Decode four bytes a pixel, of which the first is nothing and not the last (rasterfile(5))."""
    width, height, _, _, kind, _, colours = struct.unpack_from(">7I", data, 4)
    stored = data[_SUN_HEADER + colours :]
    if len(stored) < 4 * width * height:
        raise ValueError("a part of the picture is missing")
    parts = np.frombuffer(stored, np.uint8, 4 * width * height).reshape(height, width, 4)
    _note_fourth_byte(parts[..., 0].tobytes(), notes)
    return parts[..., [1, 2, 3] if kind == _SUN_RGB else [3, 2, 1]]


def _deep_sgi(data: bytes, shape: tuple[int, ...]) -> Pixels:
    """Decode two bytes a channel, of which Pillow keeps one: planes apart, from the lowest row to the highest."""
    height, width, channels = shape
    stored = np.frombuffer(data, ">u2", height * width * channels, _SGI_HEADER).reshape(channels, height, width)
    return stored[:, ::-1].transpose(1, 2, 0).astype(np.uint16)


def _with_margin(data: bytes, pixels: Pixels) -> Pixels:
    """Make transparent what the only frame of a GIF leaves free of its screen, as browsers show it."""
    position = _GIF_SCREEN + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while data[position] == _GIF_EXTENSION:
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    if data[position] != _GIF_FRAME:
        return pixels
    left, top, width, height = struct.unpack_from("<4H", data, position + 1)
    covered = np.zeros((*pixels.shape[:2], 1), bool)
    covered[top : top + height, left : left + width] = True
    if covered.all():
        return pixels
    colours = 1 if pixels.shape[2] < 3 else 3
    alpha = pixels[..., colours:] if pixels.shape[2] > colours else np.full_like(pixels[..., :1], 255)
    return np.concatenate([pixels[..., :colours], alpha * covered], axis=2)
