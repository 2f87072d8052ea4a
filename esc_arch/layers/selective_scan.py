"""The selective scan of state space networks: a linear recurrence along a sequence, with rates computed from it.

    h_t = exp(delta_t a) h_(t-1) + delta_t u_t b_t        y_t = <h_t, c_t> + d u_t

(Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, Sec. 3.) On a GPU the kernel of
`mamba_ssm` computes it, where that is installed. Elsewhere it is computed in plain PyTorch, exactly, in about
3 sqrt(L) steps instead of L. The sequence is cut into chunks of sqrt(L) positions. All chunks advance at the same time,
first from nothing, which gives what each adds to the state; then these are chained, one chunk after the other; then all
chunks advance again, from the states that they really start with. Nothing is divided by a decay, so nothing overflows.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from esc_arch.layers.seam import replaceable

BUDGET = 2**27  # bytes of the states of a segment; a few times that is kept while its gradients are computed
SHORTEST = 64  # positions of a segment


@replaceable
def selective_scan(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor
) -> torch.Tensor:
    """Scan sequences of length L; the E channels are cut into G groups, each with its `b` and `c`.

    Computed in float32 at least, also under autocast. Where gradients are needed, the states are computed again in the
    backward pass, segment by segment, so that only those of one segment are stored.

    Args:
        u: input (B, E, L).
        delta: positive step sizes (B, E, L).
        a: negative rates (E, N).
        b: what the input adds to the state, (B, G, N, L), G a divisor of E.
        c: what is read of the state, likewise.
        d: weight of the input in the output, (E,).

    Returns:
        (B, E, L).
    """
    exact = torch.promote_types(u.dtype, torch.float32)
    u, delta, a, b, c, d = (tensor.to(exact) for tensor in (u, delta, a, b, c, d))
    if u.is_cuda and exact == torch.float32 and (kernel := _mamba_kernel()) is not None:
        return kernel(u.contiguous(), delta.contiguous(), a, b.contiguous(), c.contiguous(), d)
    batch, channels, length = u.shape
    states = a.shape[1]
    grads = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (u, delta, a, b, c))
    a = a.reshape(b.shape[1], -1, states, 1)  # (G, E/G, N, 1)
    state = u.new_zeros(batch, *a.shape[:2], states)
    longest = max(BUDGET // (batch * channels * states * u.element_size()), SHORTEST) if grads else length
    outputs = []
    for start in range(0, length, longest):
        segment = (*(tensor[..., start : start + longest] for tensor in (u, delta, b, c)), a, state)
        if grads and longest < length:
            out, state = checkpoint(_scan_segment, *segment, use_reentrant=False)
        else:
            out, state = _scan_segment(*segment)
        outputs.append(out)
    return torch.cat(outputs, dim=-1) + d[:, None] * u


def _scan_segment(
    u: torch.Tensor, delta: torch.Tensor, b: torch.Tensor, c: torch.Tensor, a: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan from a given state, without the term in d.

    Args:
        u: (B, E, L); `delta`, `b` and `c` as for `selective_scan`.
        a: (G, E/G, N, 1).
        state: before the first position, (B, G, E/G, N).

    Returns:
        (B, E, L), and the state after the last position.
    """
    batch, channels, length = u.shape
    groups = a.shape[0]
    steps = math.isqrt(length - 1) + 1
    # the chunks last, where what is the same for all states or all channels is repeated at no cost
    x, delta = (
        _chunked(tensor, steps).unflatten(2, (groups, -1)).unsqueeze(4) for tensor in (u * delta, delta)
    )  # (K, B, G, E/G, 1, chunks)
    b, c = (_chunked(tensor, steps).unsqueeze(3) for tensor in (b, c))  # (K, B, G, 1, N, chunks)

    local: Any = 0.0
    for k in range(steps):
        local = torch.exp(delta[k] * a) * local + x[k] * b[k]  # (B, G, E/G, N, chunks)
    decay = torch.exp(delta.sum(dim=0) * a)
    starts = []
    for chunk in range(local.shape[4]):
        starts.append(state)
        state = decay[..., chunk] * state + local[..., chunk]

    current = torch.stack(starts, dim=4)
    read = []
    for k in range(steps):
        current = torch.exp(delta[k] * a) * current + x[k] * b[k]
        read.append((current * c[k]).sum(dim=3))  # (B, G, E/G, chunks)
    out = torch.stack(read, dim=-1).reshape(batch, channels, -1)
    return out[..., :length], state


def _chunked(tensor: torch.Tensor, steps: int) -> torch.Tensor:
    """Cut sequences (..., L) into chunks and put the place within a chunk first: (K, ..., chunks).

    The last chunk is filled up by zeros, where a step of size zero changes no state.
    """
    missing = -tensor.shape[-1] % steps
    return F.pad(tensor, (0, missing)).unflatten(-1, (-1, steps)).movedim(-1, 0).contiguous()


@functools.cache
def _mamba_kernel() -> Callable[..., torch.Tensor] | None:
    """Find the kernel of `mamba_ssm`, which is for CUDA only."""
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError:
        return None
