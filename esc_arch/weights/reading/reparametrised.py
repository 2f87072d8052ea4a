"""Weights that a checkpoint holds as what they are computed from: norms and directions, or factors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import torch

from esc_arch.common.errors import UserError

Weights = dict[str, torch.Tensor]

PARAMETRISED = re.compile(r"(^|\.)parametrizations\.")  # before what torch computes a weight of
ADAPTER = re.compile(r"(^|[._])(lora_|lora$|hada_w[12]|lokr_w[12]|dora_)")
QUANTISED = re.compile(
    r"\.(weight_scale(_inv)?|scale_weight|SCB|absmax|quant_map|quant_state.*|qweight|qzeros)$|^scaled_fp8$"
)
FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")


def merged(weights: Mapping[str, torch.Tensor], names: Collection[str] = ()) -> Weights:
    """Compute weights out of what stands for them, as the network that was saved would in evaluation.

    Weight normalisation (Salimans and Kingma, 2016) and spectral normalisation (Miyato et al., 2018) are merged in
    both forms of PyTorch, with the same numbers to rounding, and so are masks of pruning.

    Args:
        weights: names and tensors.
        names: of the network that is meant, whose own are left as they are; discriminators have such.

    Returns:
        the weights.

    Raises:
        UserError: they cannot be computed: low-rank adapters, whose strength no weight tells, quantised numbers, one
            flat tensor of all parameters, or a parametrisation that is unknown; the message lacks the file.
    """
    own = set(names)
    _require_none(
        [name for name in weights if ADAPTER.search(name) and name not in own],
        "holds the factors of an adapter (LoRA: {}), and no weight tells how much they count; merge them into the "
        "weights where they were trained (merge_and_unload of PEFT) and save those",
    )
    _require_none(
        [name for name in weights if QUANTISED.search(name) and name not in own],
        "is quantised ({} is a scale of its numbers); choose the checkpoint that it was made from",
    )
    _require_none(
        [name for name in weights if FLAT.search(name) and name not in own],
        "holds all parameters in one ({}), as FSDP keeps them; save the full state dictionary (FULL_STATE_DICT)",
    )
    found = dict(weights)
    for stem in dict.fromkeys(stem for name in weights if name not in own for stem in _stems(name)):
        for endings, compute in COMPUTED.items():
            parts = [stem + ending for ending in endings]
            target = PARAMETRISED.sub(r"\1", stem)
            if target not in found and own.isdisjoint(parts) and all(part in found for part in parts):
                found[target] = compute(*(_single(found.pop(part)) for part in parts))
    _require_none(
        [name for name in found if PARAMETRISED.search(name) and name not in own],
        "holds parts of a weight ({}) that are joined by code; call torch.nn.utils.parametrize.remove_parametrizations "
        "before it is saved",
    )
    return found


def _stems(name: str) -> list[str]:
    """Return what stands before the ending of a name, if that is one of a first part of a weight or bias."""
    stems = [name.removesuffix(first) for first, *_ in COMPUTED if name.endswith(first)]
    return [stem for stem in stems if stem.rpartition(".")[2].startswith(("weight", "bias"))]


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _normalised(norm: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Return the direction, whose length along all axes but those of `norm` is made that."""
    if norm.dim() != direction.dim():
        return direction * (norm / direction.norm())
    axes = [axis for axis, side in enumerate(norm.shape) if side == 1 and direction.shape[axis] != 1]
    length = torch.linalg.vector_norm(direction, dim=axes, keepdim=True) if axes else direction.abs()
    return direction * (norm / length)


def _spectral(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the weight divided by its largest singular value, as its singular vectors tell it."""
    first = weight if weight.shape[0] == left.numel() else weight.transpose(0, 1)  # of transposed convolutions
    return weight / torch.dot(left, first.reshape(first.shape[0], -1) @ right)


def _pruned(weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return weight * mask


# What weights are computed from, by the endings of torch.nn.utils and of torch.nn.utils.parametrizations
COMPUTED: dict[tuple[str, ...], Callable[..., torch.Tensor]] = {
    ("_g", "_v"): _normalised,
    (".original0", ".original1"): _normalised,
    ("_orig", "_u", "_v"): _spectral,
    (".original", ".0._u", ".0._v"): _spectral,
    ("_orig", "_mask"): _pruned,
}


def _require_none(names: list[str], words: str) -> None:
    if names:
        raise UserError(words.format(names[0][:80]))
