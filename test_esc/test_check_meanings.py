"""Pictures of which OpenCV, and so training, makes other values than they hold are refused, and no others."""

from __future__ import annotations

import io
import itertools
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from odd_families import FAMILIES
from odd_pictures import Odd

from esc_arch.checks import decoding
from esc_arch.checks.decoding import decode_values

ALL = [odd for family in FAMILIES.values() for odd in family()]
LOSSY_OR_OTHER = ("avif", "gif")  # whose turning and transparent colours are taken as OpenCV has them
TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?"]


def as_training_reads(data: bytes) -> np.ndarray[Any, Any] | None:
    """Read RGB in [0, 1] as BasicSR's `imfrombytes` does."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else image[..., ::-1].astype(np.float32) / 255


def is_right(odd: Odd) -> bool:
    """Whether training reads what a file means; an alpha may be left out, or laid on black."""
    read = as_training_reads(odd.data)
    if read is None or read.ndim < 3:  # a grey PFM
        return False
    whole = np.atleast_3d(odd.seen)
    has_alpha = whole.shape[2] in (2, 4)
    colours = whole[..., :-1] if has_alpha else whole
    seen = (colours, colours * whole[..., -1:]) if has_alpha else (colours,)
    return any(read.shape[:2] == one.shape[:2] and np.abs(read - one).mean() < 0.01 + odd.off for one in seen)


def test_every_odd_picture_is_read_right_or_refused() -> None:
    by_name = {f"{index}_{odd.name}": odd for index, odd in enumerate(ALL)}
    findings = decode_values(lambda name: by_name[name].data, list(by_name), "x")
    judged = {name: odd for name, odd in by_name.items() if not odd.name.endswith(LOSSY_OR_OTHER)}
    taken_wrongly = [name for name, odd in judged.items() if name in findings.sizes and not is_right(odd)]
    refused_wrongly = [name for name, odd in judged.items() if name in findings.faults and is_right(odd)]
    assert not taken_wrongly
    assert not refused_wrongly
    assert len(findings.sizes) > 500
    assert not [fault for fault in findings.faults.values() if "damaged" in fault or "no picture" in fault]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_every_sample_format_of_tiff(photometric: str) -> None:
    """Positive numbers alone are signed, too: white would be grey."""
    values = np.random.default_rng(0).random((16, 20, 3) if photometric == "rgb" else (16, 20))
    for name, order in itertools.product(TYPES, "<>"):
        kind = np.dtype(name)
        if kind.kind == "b" and photometric == "rgb":
            continue
        whole = np.iinfo(kind).max // 2 if kind.kind in "iu" else 1
        stream = io.BytesIO()
        stored = values > 0.5 if kind.kind == "b" else (values * (2 * whole if kind.kind in "iu" else 1)).astype(kind)
        tifffile.imwrite(stream, stored, photometric=photometric, byteorder=order)
        found = decoding._decode(stream.getvalue())
        if name in ("u1", "u2", "?"):
            assert isinstance(found, decoding.Whole), (name, order)
            assert found.size == (16, 20)
            share = stored.astype(float) / (1 if kind.kind == "b" else np.iinfo(kind).max)
            share = np.atleast_3d(1 - share if photometric == "miniswhite" else share)
            assert np.abs(as_training_reads(stream.getvalue()) - share).max() < 0.01, (name, order)
        else:
            assert isinstance(found, str), (name, order)
            assert "damaged" not in found
            if name in ("i1", "i2"):
                assert found.endswith("convert it to 8 or 16 bits without a sign")


@pytest.mark.parametrize("most", [1, 15, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_pnm_whose_white_is_another_number(most: int, channels: int) -> None:
    """OpenCV reads the number of white, but does not use it."""
    values = np.random.default_rng(0).integers(0, most + 1, (16, 20, channels)).astype(">u2" if most > 255 else "u1")
    data = b"P%d\n20 16\n%d\n" % (5 if channels == 1 else 6, most) + values.tobytes()
    read = as_training_reads(data)
    found = decoding._decode(data)
    if read is not None and np.abs(read - values / most).max() < 0.01:
        assert isinstance(found, decoding.Whole)
        assert found.size == (16, 20)
    else:
        assert isinstance(found, str)
    assert isinstance(found, str) == (most not in (255, 65535))
