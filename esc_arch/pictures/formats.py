"""Formats of pictures: how their files are named, how they begin, and which of them are read and written."""

from __future__ import annotations

import os

FORMATS = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".j2c": "JPEG2000",
    ".jpc": "JPEG2000",
    ".jpf": "JPEG2000",
    ".jpx": "JPEG2000",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".pam": "PPM",
    ".pfm": "PPM",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".jxl": "JXL",
    ".tga": "TGA",
    ".pcx": "PCX",
    ".ico": "ICO",
    ".sgi": "SGI",
    ".dds": "DDS",
    ".qoi": "QOI",
    ".xbm": "XBM",
    ".ras": "SUN",
    ".sun": "SUN",
}
OTHERS = (  # suffixes of pictures and documents that are neither read nor written
    *(".psd", ".psb", ".xcf", ".kra", ".ora", ".pdf", ".eps", ".svg", ".exr", ".hdr", ".dpx", ".cin", ".fits"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".jxr", ".wdp", ".jls", ".icns", ".xpm"),
)
WRITTEN = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF")
NAMELESS = ("TGA",)  # do not tell by their first bytes what they are
INSTEAD = ".png"  # holds what those formats hold that are read but not written
EXTRAS = {"HEIF": ("pillow_heif", "heif"), "JXL": ("pillow_jxl", "jxl")}  # the module, and the extra that brings it

_BRANDS = {  # of the ISO base media file format
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"heim": "HEIF",
    b"heis": "HEIF",
    b"hevc": "HEIF",
    b"hevx": "HEIF",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "a raw picture of a camera (CR3)",
}
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0\x10\0\0\0CR": "a raw picture of a camera (CR2)",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x0a": "JXL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"v/1\x01": "OpenEXR, light without a stated range",
    b"#?R": "Radiance HDR, light without a stated range",
    b"8BPS": "a document of Photoshop",
    b"8BIM": "a document of Photoshop",
    b"gimp xcf": "a document of GIMP",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document",
    b"<!DOCTYPE": "a page of the web",
    b"<html": "a page of the web",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"\0\0\1\0": "ICO",
    b"\x01\xda": "SGI",
    b"\x59\xa6\x6a\x95": "SUN",
    b"#define ": "XBM",
    **{bytes((10, version, 1)): "PCX" for version in (0, 2, 3, 4, 5)},
    b"FUJIFILMCCD-RAW": "a raw picture of a camera",
    b"IIRO": "a raw picture of a camera",
    b"IIU\0": "a raw picture of a camera",
    b"II\xbc\x01": "a JPEG XR picture",
    b"version https://git-lfs": "a pointer of Git LFS to a file that is not there",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!\x1a\7": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"SDPX": "a DPX picture of a film scanner",
    b"XPDS": "a DPX picture of a film scanner",
    b"\x80\x2a\x5f\xd7": "a Cineon picture of a film scanner",
    b"SIMPLE  =": "a FITS file, light without a stated range",
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x8aMNG": "an MNG animation",
    b"\x8bJNG": "a JNG picture",
    b"icns": "an icon of macOS",
    b"/* XPM */": "an XPM picture",
    b"AT&TFORM": "a DjVu document",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile",
    b"\xd0\xcf\x11\xe0": "a document of Office",
    b"\x1a\x45\xdf\xa3": "a film",
    b"\x00\x05\x16\x07": "the companion that macOS writes beside a file",
}
_BARE_BITMAPS = tuple(bytes((size, 0, 0, 0)) for size in (40, 52, 56, 108, 124))  # BMP from its second header on
HEAD = 512  # bytes that `sniff` wants


def sniff(head: bytes) -> str | None:
    """Tell by its first bytes what a file holds.

    Args:
        head: the first `HEAD` bytes, or all.

    Returns:
        a value of `FORMATS`, or "DIB" for a BMP without the header of its file; or words for
        a kind that is not read; None where the bytes tell nothing.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "a film"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"ftyp":
        brands = [
            head[8:12],
            *(head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4)),
        ]
        known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in known else known[0] if known else "a film"
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return "PPM"
    if head[:4] in _BARE_BITMAPS and head[12:14] == b"\1\0":
        return "DIB"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature) or (signature[:1] in b"<%" and text.lower().startswith(signature.lower())):
            return kind
    return None


def result_suffix(suffix: str) -> str:
    """Return the suffix of what a picture becomes: its own where that is written, .png otherwise.

    Args:
        suffix: a key of `FORMATS`, in capital letters or not.
    """
    return suffix if FORMATS.get(suffix.lower()) in WRITTEN else INSTEAD


def format_of(file: str) -> str | None:
    """Return the format that a name stands for, None where it stands for none."""
    return FORMATS.get(os.path.splitext(file)[1].lower())
