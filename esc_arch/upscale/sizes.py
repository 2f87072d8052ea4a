"""How large results shall be."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from esc_arch.common.arguments import positive

Sides = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Size:
    """The size of results, as it was asked for. At most one thing is given; nothing means as the network has it.

    Args:
        scale: factor of both sides.
        width: the most pixels of a row.
        height: the most pixels of a column.
        longest: pixels of the longer side.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    longest: int | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was asked for."""
        return any(value is not None for value in (self.scale, self.width, self.height, self.longest))

    def of(self, height: int, width: int) -> Sides:
        """Return the sides of the result for those of a picture.

        The picture keeps its aspect: one side is what was asked for and the other the nearest whole number, at least 1
        and never more than was asked for.

        Raises:
            ValueError: nothing was asked for.
        """
        if self.scale is not None:
            return max(round(self.scale * height), 1), max(round(self.scale * width), 1)
        most = (self.longest or self.height, self.longest or self.width)
        bounds = [(limit, side) for limit, side in zip(most, (height, width), strict=True) if limit is not None]
        if not bounds:
            raise ValueError("no size is asked for")
        limit, side = min(bounds, key=lambda bound: bound[0] / bound[1])
        return _scaled(height, limit, side), _scaled(width, limit, side)

    def label(self) -> str:
        """Return what is added to the names of results: `_3840x2160`, `_4096`, `_x2.7`."""
        if self.scale is not None:
            return f"_x{self.scale:g}"
        if self.longest is not None:
            return f"_{self.longest}"
        return f"_{self.width or ''}x{self.height or ''}"


def box(text: str) -> Size:
    """Read `3840x2160`, `x2160` or `3840x`, as a `type` of argparse."""
    width, cross, height = text.lower().partition("x")
    if not cross or not (width or height):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 3840x2160, 3840x or x2160")
    return Size(width=positive(width) if width else None, height=positive(height) if height else None)


def factor_of(sides: Sides, target: Sides) -> float:
    """Return how many times larger the result is, of the side that grows more."""
    return max(after / before for before, after in zip(sides, target, strict=True))


def _scaled(length: int, limit: int, side: int) -> int:
    """Return `length * limit / side`, rounded, half up."""
    return max((2 * length * limit + side) // (2 * side), 1)
