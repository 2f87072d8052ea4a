"""Window attention with a rank-factorised implicit bias (RIB), and without positions; gates of its result."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from esc_arch.layers.arguments import require
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.factored_bias import FLASH_CHANNELS, FactoredBias, exactly

GATES = (None, "DWC", "Linear")
SIREN_FREQUENCY = 30

_KEPT: WeakKeyDictionary[nn.Module, tuple[Any, tuple[torch.Tensor, ...], FactoredBias]] = WeakKeyDictionary()


def new_gate(dim: int, gate_type: str | None) -> nn.Sequential | None:
    """Create the gate that multiplies the result of an attention, computed from its input.

    Args:
        dim: number of channels C.
        gate_type: "DWC" (depthwise 3x3, then 1x1), "Linear" (1x1) or None.

    Raises:
        ValueError: there is no such gate.
    """
    require(gate_type in GATES, f"gate_type must be one of {', '.join(map(str, GATES))}, got {gate_type!r}")
    if gate_type is None:
        return None
    first = [nn.Conv2d(dim, dim, 3, padding=1, groups=dim)] if gate_type == "DWC" else []
    return nn.Sequential(*first, nn.Conv2d(dim, dim, 1), nn.Sigmoid())


class ImplicitBiasAttention(WindowAttention):
    """`WindowAttention` whose bias is a product of functions of the places of query and key in the window.

    "Rank-factorized Implicit Neural Bias" (arXiv 2603.06738): sines and cosines of a place, one hidden layer, and two
    linear maps, for queries and keys, to R channels of every head; the bias is their product over sqrt(R). No weight
    depends on the window. Without gradients the factors are computed once for the weights as they are.

    Args:
        dim: number of channels C.
        window_size: side w of a window.
        num_heads: number of heads h, a divisor of C.
        rank: R; None for as many as flash kernels take.
        hidden_dim: features G of the hidden layer.
        n_freqs: octaves F of sines and cosines.
        siren: instead of them and of a ReLU, the hidden layer is a sine of the place itself.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        dim: int,
        window_size: int,
        num_heads: int,
        rank: int | None = None,
        hidden_dim: int = 64,
        n_freqs: int = 10,
        siren: bool = False,
    ) -> None:
        super().__init__(dim, window_size, num_heads)
        rank = FLASH_CHANNELS - dim // num_heads if rank is None else rank
        require(rank >= 1, f"rank must be positive, got {rank}")
        require(hidden_dim >= 1, f"rib_hidden_dim must be positive, got {hidden_dim}")
        require(n_freqs >= 0, f"rib_n_freqs must not be negative, got {n_freqs}")
        self.n_freqs = 0 if siren else n_freqs
        self.siren = siren
        self.to_hidden = nn.Parameter(nn.init.normal_(torch.empty(2 + 4 * self.n_freqs, hidden_dim), std=0.05))
        self.hidden_b = nn.Parameter(torch.zeros(1, hidden_dim))
        self.to_q = nn.Parameter(nn.init.normal_(torch.empty(num_heads, hidden_dim, rank), std=0.05))
        self.to_k = nn.Parameter(nn.init.normal_(torch.empty(num_heads, hidden_dim, rank), std=0.05))

    def new_positions(self) -> None:
        """Create nothing here: the weights come later, when their sizes are known."""

    def bias(self) -> FactoredBias:
        """Prepare the bias, or take that of the last forward pass where no weight has changed since."""
        weights = self.to_hidden, self.hidden_b, self.to_q, self.to_k
        graph = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if graph or any(weight.is_inference() or weight.is_meta for weight in weights):
            return self._computed()
        state = self.window_size, [(weight.data_ptr(), weight._version, weight.device) for weight in weights]
        kept = _KEPT.get(self)
        if kept is None or kept[0] != state:
            # the weights are kept too, so that no others can take their place in memory
            kept = _KEPT[self] = state, tuple(weight.detach() for weight in weights), self._computed()
        return kept[2]

    def _computed(self) -> FactoredBias:
        exact = torch.promote_types(self.to_q.dtype, torch.float32)
        with exactly(self.to_q):
            hidden = self.features().to(exact) @ self.to_hidden.to(exact) + self.hidden_b.to(exact)
            hidden = (SIREN_FREQUENCY * hidden).sin() if self.siren else hidden.relu()  # (w * w, G)
            q, k = hidden @ self.to_q.to(exact), hidden @ self.to_k.to(exact)  # (h, w * w, R)
            return FactoredBias(q * q.shape[-1] ** -0.5, k, self.window_size)

    def features(self) -> torch.Tensor:
        """Return what is known of every place, (w * w, 2 + 4F), float32, x before y; pixel centres lie in [-1, 1]."""
        step = torch.arange(self.window_size, device=self.to_q.device, dtype=torch.float32)
        centre = 2 * (step + 0.5) / self.window_size - 1
        y, x = (place.reshape(-1) for place in torch.meshgrid(centre, centre, indexing="ij"))
        columns = [x, y]
        for octave in range(self.n_freqs):
            columns += [wave(2**octave * place) for wave in (torch.sin, torch.cos) for place in (x, y)]
        return torch.stack(columns, dim=-1)


class PlainAttention(WindowAttention):
    """`WindowAttention` that knows no positions ("NoPE"); arguments as there."""

    def new_positions(self) -> None:
        """Create nothing."""

    def bias(self) -> FactoredBias:
        """Return a bias of rank zero."""
        factors = self.to_qkv.weight.new_zeros(self.num_heads, self.window_size**2, 0)
        return FactoredBias(factors, factors, self.window_size)
