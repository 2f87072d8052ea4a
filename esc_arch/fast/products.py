"""Matrix products on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply `x` (m, k) by the transpose of `weight` (n, k), without gradients.

    PyTorch hands products of matrices to MKL, which on processors not made by Intel keeps to AVX2. oneDNN, which comes
    with PyTorch for convolutions, compiles its products for the processor at hand; its operator is the one that
    PyTorch's compiler generates calls of, and where a build has none, the usual product is taken.

    Returns:
        (m, n).
    """
    if _has_onednn() and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.enabled) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
