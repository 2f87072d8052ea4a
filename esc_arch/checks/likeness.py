"""Whether LQ shows what its GT shows: sizes agree too where one of the two is turned by 180 degrees, or another image.

Images are compared by thumbnails, in which all that a degradation takes away is averaged out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from esc_arch.common.errors import UserError, some

SIDE = 8  # of a thumbnail, in pixels
CONTRAST = 3.0  # levels by which the pixels of a thumbnail must differ from their mean to say anything
SUSPECT = 0.95  # correlation of thumbnails from which on LQ is that of its GT: shrunk and compressed, it has 0.99
SAME = 0.97  # correlation with which LQ is that of something else
MUCH_BETTER = 5  # times nearer to it than to its GT
FAR = 1 - MUCH_BETTER * (1 - SAME)  # correlation with its GT below which only LQ is taken for that of something else
UNLIKE = 0.5  # correlation below which LQ is hardly that of its GT
JUDGED = 2000  # suspects that are looked at closely; where there are more, that is how the data are
GROUP = 100  # images that are compared with all others at once

Numbers = NDArray[np.float32]
Pair = tuple[str, str, bytes, bytes]  # names of GT and LQ, and their thumbnails


def thumbnail(image: NDArray[Any]) -> bytes:
    """Return `SIDE` x `SIDE` pixels, BGR, 8 bits, of an image (H, W, 3); nothing of one that is smaller."""
    if min(image.shape[:2]) < SIDE:
        return b""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).tobytes()


def check_likeness(pairs: Iterable[Pair], where: str) -> list[str]:
    """Check that LQ shows what its GT shows.

    Args:
        pairs: of a data set.
        where: name of the section, for messages.

    Returns:
        sentences about LQ that hardly resembles its GT, if there is such: degradations may be of any kind. Where there
        is much of it, what seems turned or exchanged is told likewise.

    Raises:
        UserError: LQ is its GT turned, mirrored, or with other colours, or shows what another GT shows.
    """
    known = [pair for pair in pairs if pair[2] and pair[3]]
    if not known:
        return []
    gt, gt_contrast = _standard(pair[2] for pair in known)
    lq, lq_contrast = _standard(pair[3] for pair in known)
    like = (gt * lq).sum(1)
    telling = np.minimum(gt_contrast, lq_contrast) >= CONTRAST
    suspects = np.flatnonzero(telling & (like < SUSPECT))[:JUDGED].tolist()
    turned, coloured, unlike = list[int](), list[int](), list[int]()
    for index in suspects:
        most, is_turned = max((float(other @ lq[index]), is_turned) for is_turned, other in _others(gt[index]))
        if most >= SAME and MUCH_BETTER * (1 - most) < 1 - like[index]:
            (turned if is_turned else coloured).append(index)
        elif like[index] < UNLIKE:
            unlike.append(index)
    elsewhere = list(_elsewhere(unlike, gt, lq, gt_contrast))
    explained = len(turned) + len(coloured) + len(elsewhere)
    # where more are far from their GT without a reason, that is how the data are, and some resemble others by chance
    is_certain = 2 * explained >= sum(bool(like[index] < FAR) for index in suspects)
    notes = [
        *_told(
            [known[index][1] for index in turned],
            f"{where}: LQ is turned or mirrored against its GT",
            "make it of GT as OpenCV reads it, which turns images as their EXIF says",
            is_certain,
        ),
        *_told(
            [known[index][1] for index in coloured],
            f"{where}: LQ has red and blue exchanged against its GT",
            "write both in the same order of colours",
            is_certain,
        ),
        *_told(
            [
                f"{known[index][1]} shows what {known[other][0]} does and not {known[index][0]}"
                for index, other in elsewhere
            ],
            f"{where}: LQ is paired with the GT of another image",
            "give what belongs together one name",
            is_certain,
        ),
    ]
    far = np.flatnonzero(telling & (like < UNLIKE)).tolist()
    if far:
        names = some([known[index][1] for index in far], 3)
        notes.append(
            f"{where}: {len(far)} of {len(known)} LQ hardly resemble GT: {names}; look whether they are pairs."
        )
    return notes


def _standard(thumbnails: Iterable[bytes]) -> tuple[Numbers, Numbers]:
    """Return thumbnails as rows without mean, of length 1, and their contrast in levels."""
    rows = np.stack([np.frombuffer(pixels, np.uint8) for pixels in thumbnails]).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1)
    return rows / np.maximum(length, 1e-6)[:, None], length / np.sqrt(rows.shape[1])


def _others(row: Numbers) -> Iterator[tuple[bool, Numbers]]:
    """Give a thumbnail turned, mirrored and with red and blue exchanged in every way, and whether it is turned."""
    square = row.reshape(SIDE, SIDE, 3)
    for turns in range(4):
        for mirrored in (False, True):
            for exchanged in (False, True):
                other = np.rot90(square[:, ::-1] if mirrored else square, turns)
                other = other[..., ::-1] if exchanged else other
                if turns or mirrored or exchanged:
                    yield bool(turns or mirrored), np.ascontiguousarray(other).reshape(-1)


def _elsewhere(suspects: list[int], gt: Numbers, lq: Numbers, contrast: Numbers) -> Iterator[tuple[int, int]]:
    """Find LQ that is that of another GT: their places."""
    clear = np.where(contrast >= CONTRAST, 1, 0)
    for start in range(0, len(suspects), GROUP):
        group = suspects[start : start + GROUP]
        likes = (lq[group] @ gt.T) * clear
        for index, row in zip(group, likes, strict=True):
            other = int(row.argmax())
            if row[other] >= SAME:
                yield index, other


def _told(names: list[str], what: str, advice: str, is_certain: bool) -> list[str]:
    """Refuse what is certain, and return a sentence about what only seems so."""
    if names and is_certain:
        raise UserError(f"{what}: {some(names, 3)}; {advice}.")
    return [f"{what}, as it seems: {some(names, 3)}; look whether they are pairs."] if names else []
