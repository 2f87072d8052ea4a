"""Plain tensors out of all that checkpoints hold, or one sentence on what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from esc_arch.common.errors import UserError
from esc_arch.weights.reading.stand_ins import ArrayStandIn

LARGEST_SURPLUS = 2**26  # bytes that tensors may claim beyond what is stored, as expanded and sparse ones do
OF_ONE_BYTE = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
EIGHT_BITS = {getattr(torch, name) for name in OF_ONE_BYTE if hasattr(torch, name)}
SPARE_PARTS = 64
CHOOSE = "choose another file"
MEANT_INFINITE = "mask"  # buffers that rule out pairs of pixels


def plain(weights: Mapping[str, torch.Tensor | ArrayStandIn]) -> dict[str, torch.Tensor]:
    """Make dense tensors on the CPU of tensors of any kind.

    Args:
        weights: by name.

    Returns:
        tensors of the same numbers, of 16 bits or more where they are floating point.

    Raises:
        UserError: one has no numbers, or no finite ones, or is quantised; the message lacks the file.
    """
    _require_plausible(weights)
    _require_numbers(weights)
    surplus, dense = 0, {}
    for name, value in weights.items():
        tensor = _tensor(name, value)
        surplus += max(tensor.numel() * tensor.element_size() - _stored(tensor), 0)
        if surplus > LARGEST_SURPLUS:
            raise UserError(f"is damaged: {_short(name)} claims more numbers than the file holds; choose another file")
        _require_weights(name, tensor)
        tensor = (tensor if tensor.layout is torch.strided else tensor.to_dense()).resolve_neg()
        tensor = tensor.float() if tensor.dtype in EIGHT_BITS else tensor
        _require_finite(name, tensor)
        dense[name] = tensor
    return dense


def _require_plausible(names: Collection[str]) -> None:
    """Refuse numbers of parts of which there cannot be as many: a network would be built with all of them."""
    most = SPARE_PARTS + 4 * len(names)  # parts without weights are numbered too
    for name in names:
        if any(part.isdecimal() and (len(part) > 9 or int(part) > most) for part in name.split(".")):
            raise UserError(f"is damaged, or no network's: {_short(name)} is one of {len(names)} tensors; {CHOOSE}")


def _require_numbers(weights: Mapping[str, torch.Tensor | ArrayStandIn]) -> None:
    """Refuse weights whose numbers are in other files, one for each process."""
    empty = [name for name, value in weights.items() if isinstance(value, torch.Tensor) and not value.numel()]
    if empty and 2 * len(empty) >= len(weights):
        raise UserError(
            f"holds names without numbers ({_short(empty[0])} is empty), as ZeRO stage 3 of DeepSpeed leaves them; "
            "make a whole checkpoint by zero_to_fp32.py"
        )


def _tensor(name: str, value: torch.Tensor | ArrayStandIn) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    try:
        return value.tensor()
    except (ValueError, TypeError) as error:
        raise UserError(f"has no numbers that can be used in {_short(name)} ({error}); choose another file") from error


def _stored(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor has at most."""
    if tensor.layout is torch.strided and not tensor.is_meta:
        return tensor.untyped_storage().nbytes()
    return 0


def _require_weights(name: str, tensor: torch.Tensor) -> None:
    where = _short(name)
    if tensor.is_meta:
        raise UserError(
            f"holds shapes without numbers ({where} is on the device meta); choose a checkpoint with numbers"
        )
    if tensor.is_nested:
        raise UserError(f"has in {where} a nested tensor, which is no weight; choose another file")
    number = tensor.is_floating_point() or tensor.is_complex()
    if tensor.is_quantized or (not number and name.endswith((".weight", ".bias"))):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"is quantised ({where} is {kind}); choose the checkpoint that it was made from")
    if tensor.is_complex():
        raise UserError(f"has complex numbers in {where}, which no network here has; choose another file")


def _require_finite(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or MEANT_INFINITE in name or bool(torch.isfinite(tensor).all()):
        return
    what = "NaN" if bool(tensor.isnan().any()) else "infinite numbers"
    raise UserError(
        f"has {what} in {_short(name)}: the training that wrote it had failed, or the file is damaged; choose an "
        "earlier checkpoint"
    )


def _short(name: str) -> str:
    """Shorten a name for a message, without characters that are not shown."""
    shown = repr(name)[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
