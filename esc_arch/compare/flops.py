"""Counts multiply-accumulates, as papers do under the name FLOPs.

The convention is fvcore's: one per multiply-accumulate of convolutions and matrix products, attention included, five
per element of a normalisation with weights (four without), two of a batch norm, and one of global average pooling.
Interpolation, which fvcore counts in part, and all element-wise operations are free. Unlike fvcore's tracer, PyTorch's
counter sees fused attention. A selective scan, which fvcore does not see at all, counts two for each state of each
channel at each step: the decayed state is one, h = decay * h + input, and reading it another, y = y + c * h.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.seam import replaced
from esc_arch.layers.selective_scan import selective_scan

CONVENTION = (
    "multiply-accumulates, counted as fvcore does: one per multiply-accumulate of convolutions, matrix products and "
    "attention (PyTorch's counter, which counts two, halved), five per element of a layer norm; selective scans, which "
    "fvcore leaves out, with two per state and step"
)
SCAN = 2  # multiply-accumulates of a state in a step
Shape = torch.Size
aten = torch.ops.aten


def count_macs(network: nn.Module, height: int, width: int) -> int:
    """Count the multiply-accumulates of one image.

    The network runs on the meta device, without memory and in a second or so; where it cannot (because it reads
    values, for instance), it runs on the CPU.

    Args:
        network: takes (1, 3, H, W); it is not changed.
        height: H.
        width: W.

    Returns:
        the number of multiply-accumulates.

    Raises:
        RuntimeError, ValueError, ...: whatever the network raises at this size.
    """
    try:
        return _count(copy.deepcopy(network).to("meta"), torch.empty(1, 3, height, width, device="meta"))
    except Exception:  # what a network does on meta tensors that it was not written for is open
        return _count(network.cpu(), torch.rand(1, 3, height, width))


def _count(network: nn.Module, image: torch.Tensor) -> int:
    scanned = 0

    def count_scan(definition: Callable[..., torch.Tensor], u: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        nonlocal scanned
        scanned += SCAN * u.numel() * others[1].shape[1]
        if u.is_meta:  # no need to go through it step by step
            return torch.empty_like(u, dtype=torch.promote_types(u.dtype, torch.float32))
        return definition(u, *others)

    with (
        torch.no_grad(),
        speedups.use(Speedups.none()),
        replaced(selective_scan, count_scan),
        FlopCounterMode(display=False, custom_mapping=_further_operators()) as counter,
    ):
        network.eval()(image)
    return counter.get_total_flops() // 2 + scanned


def _further_operators() -> dict[Any, Callable[..., int]]:
    """Formulas of operators that PyTorch's counter leaves out, doubled like all of its own."""
    formulas: dict[str, Callable[..., int]] = {
        "native_layer_norm": _layer_norm,
        "native_group_norm": _group_norm,
        "native_batch_norm": _batch_norm,
        "_native_batch_norm_legit_no_training": _batch_norm,
        "_adaptive_avg_pool2d": lambda x, *args, **kwargs: 2 * math.prod(x),
        "_scaled_dot_product_flash_attention_for_cpu": lambda q, k, v, *args, **kwargs: sdpa_flop_count(q, k, v),
    }
    return {getattr(aten, name): formula for name, formula in formulas.items() if hasattr(aten, name)}


def _layer_norm(x: Shape, normalised: Any, weight: Shape | None, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(x) * (4 if weight is None else 5)


def _group_norm(x: Shape, weight: Shape | None, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(x) * (4 if weight is None else 5)


def _batch_norm(x: Shape, weight: Shape | None, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(x) * (1 if weight is None else 2)
