"""The real-world networks of the ESC family and their relatives in other trainers, from the shapes of their weights.

All have the same trunk; they differ in how they enlarge. The authors' ESC-Real-M and traiNNer-redux's `escrealm` say it
in a buffer, `to_img.MetaUpsample`, which goes first: two factors of one upsampler may have the same shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from esc_arch.archs import ESCReal, ESCRealM
from esc_arch.common.errors import UserError
from esc_arch.layers.upsample_head import GROUPS, Mark
from esc_arch.weights.shapes import SAY_SCALE, Arguments, Infer, Shapes, UndecidedError, infer_trunk, root

SAMPLER = "offset.weight"  # of DySample
ENLARGED_IN_ALL = 4  # by what follows pixel-unshuffling, at scales 1 and 2


class UnsupportedFormError(UserError):
    """The weights are those of a relative of these networks that this package does not have."""


def recognise_real(shapes: Shapes, mark: Mark | None) -> tuple[type[nn.Module], Infer] | None:
    """Recognise a real-world network; None where it is none.

    Raises:
        UnsupportedFormError: it is one that this package does not have.
    """
    if "skip.0.weight" not in shapes and "skip.1.weight" not in shapes:
        return None
    convolutions = _numbered(shapes)
    if mark is None:
        if f"to_img.{SAMPLER}" in shapes:
            return ESCReal, _infer_sampled
        of_trainner = "to_img.2.conv.0.weight" in shapes or "to_img.0.proj_q.weight" in shapes
        if convolutions and 0 not in convolutions and not of_trainner:
            if sorted(convolutions) == [1, 4, 6]:
                raise UnsupportedFormError(
                    "The weights are those of the first ESC-Real (March 2025), whose to_img has one convolution less "
                    "than the released one; this package does not have it, train the released form."
                )
            return ESCReal, _infer_of_neosr if 3 in convolutions else _infer_nearest
    return ESCRealM, _infer_with_choice


def _infer_nearest(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    return {**infer_trunk(shapes), "upscaling_factor": 4}


def _infer_sampled(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    return {**infer_trunk(shapes), "upscaling_factor": _sampled(shapes[f"to_img.{SAMPLER}"]), "use_dysample": True}


def _infer_of_neosr(shapes: Shapes, _known: Arguments, _mark: Mark | None) -> Arguments:
    doublings = max(_numbered(shapes)) // 5  # five modules each, and a last convolution
    return {**infer_trunk(shapes), "upscaling_factor": 2**doublings, "neosr_head": True}


def _infer_with_choice(shapes: Shapes, known: Arguments, mark: Mark | None) -> Arguments:
    shrunk = 1
    if "proj.1.weight" in shapes:
        shrunk = root(shapes["proj.1.weight"][1] / 3, "a third of the channels of the input")
    trunk = infer_trunk(shapes)
    found = mark or _mark_of_shapes(shapes, trunk["dim"], shrunk, known)
    scale = found.scale // shrunk
    arguments = {**trunk, "upsampler": found.upsampler, "mid_dim": found.mid_dim, "upscaling_factor": scale}
    if shrunk > 1 and (found.scale != ENLARGED_IN_ALL or scale > 2):
        raise ValueError(
            f"the image is pixel-unshuffled by {shrunk} and then enlarged {found.scale} times, not {ENLARGED_IN_ALL}"
        )
    return {**arguments, "unshuffle_mod": shrunk > 1} if scale < 3 else arguments


def _mark_of_shapes(shapes: Shapes, dim: int, shrunk: int, known: Arguments) -> Mark:
    """Find out what the mark would say.

    Raises:
        UndecidedError: shapes do not tell the factor, and it is not known.
    """
    at = _numbered(shapes)
    if "to_img.2.conv.0.weight" in shapes:
        doublings = sum(name.endswith(".conv.0.weight") for name in shapes if name.startswith("to_img."))
        return Mark("pa_up", _doubled(doublings, "pa_up", shrunk, known), dim, at[1][0])
    for place in (0, 2):  # behind a convolution to fewer channels, or not
        offset, query = (shapes.get(f"to_img.{place}.{name}") for name in (SAMPLER, "proj_q.weight"))
        if offset:
            return Mark("dysample", _sampled(offset), dim, offset[1])
        if query:
            return Mark("lda", _decided(None, "lda", shrunk, known), dim, query[1])
    first, mid_dim = at[0], known.get("mid_dim", 48)  # which plays no part in the following
    if first[2] == 4:
        return Mark("transpose+conv", 4 if 2 in at else 2, dim, mid_dim)
    if 1 in at:
        return Mark("transpose+conv", 3, dim, mid_dim)
    if len(at) == 1:
        scale = root(first[0] / 3, "a third of the channels of to_img.0")
        return Mark("conv" if scale == 1 else "pixelshuffledirect", scale, dim, mid_dim)
    if 2 in at:
        thrice = at[2][0] == 9 * first[0]
        return Mark("pixelshuffle", 3 if thrice else 2 ** (len(at) - 2), dim, first[0])
    return Mark("nearest+conv", _doubled(len(at) - 2, "nearest+conv", shrunk, known), dim, mid_dim)


def _doubled(doublings: int, upsampler: str, shrunk: int, known: Arguments) -> int:
    """Return the factor of so many steps, of which a single one is by 2 or by 3."""
    return _decided((2, 3), upsampler, shrunk, known) if doublings == 1 else 2**doublings


def _decided(choices: tuple[int, ...] | None, upsampler: str, shrunk: int, known: Arguments) -> int:
    """Return the factor of an upsampler that shapes do not tell, out of some or any."""
    if shrunk > 1:
        return ENLARGED_IN_ALL if choices is None else choices[0]
    wanted = known.get("upscaling_factor")
    if wanted is None:
        what = "how many times they enlarge" if choices is None else "whether they enlarge 2 or 3 times"
        raise UndecidedError(
            f"The weights (ESC-Real-M with {upsampler!r}, without to_img.MetaUpsample) do not tell {what}; " + SAY_SCALE
        )
    if choices is not None and wanted not in choices:
        raise ValueError(f"they enlarge {' or '.join(map(str, choices))} times, not {wanted}")
    return int(wanted)


def _sampled(offset: tuple[int, ...]) -> int:
    axes = 2
    return root(offset[0] / (GROUPS * axes), "a place per pixel of DySample")


def _numbered(shapes: Shapes) -> Mapping[int, tuple[int, ...]]:
    """Return the shapes of the weights that stand in a row in `to_img`, by their number."""
    found = ((re.fullmatch(r"to_img\.(\d+)\.weight", name), shape) for name, shape in shapes.items())
    return {int(match[1]): shape for match, shape in found if match}
