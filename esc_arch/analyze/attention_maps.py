"""Attention maps of any network, taken while it runs: behind every softmax and within every fused attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.hit_correlation import CellPositionBias

SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax, torch.special.softmax}


class AttentionMaps:
    """The maps of one pass through a network.

    Attributes:
        names: of the modules that compute them; numbered where one computes several.
        maps: (windows, queries, keys), averaged over the heads, whose order is of no meaning.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.maps: list[torch.Tensor] = []
        self.within: list[str] = []
        self.bias: torch.Tensor | None = None  # of HiT-SR's correlation that is being computed

    def add(self, weights: torch.Tensor) -> None:
        """Keep a map (..., heads, queries, keys) or (windows, queries, keys), if it relates things to each other."""
        if weights.dim() < 3 or min(weights.shape[-2:]) < 2:
            return
        if weights.dim() > 3:
            weights = weights.mean(dim=-3).flatten(0, -3)
        name = self.within[-1] if self.within else ""
        times = sum(known.partition("#")[0] == name for known in self.names)
        self.names.append(f"{name}#{times + 1}" if times else name)
        self.maps.append(weights.detach())


class _Listening(TorchFunctionMode):
    def __init__(self, found: AttentionMaps) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.found.add(_weights(*args, **kwargs))
        elif func in SOFTMAX and _is_of_keys(args, kwargs):
            self.found.add(result)
        elif self.found.bias is not None and any(arg is self.found.bias for arg in args):
            self.found.bias = None
            self.found.add(result)
        return result


def _is_of_keys(args: Any, kwargs: Any) -> bool:
    """Whether a softmax is over the last axis."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    tensor = args[0] if args else kwargs.get("input")
    return isinstance(tensor, torch.Tensor) and dim in (-1, tensor.dim() - 1)


def _weights(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What PyTorch's fused attention weighs `value` with."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(dim=-1)


@contextmanager
def listened(network: nn.Module) -> Iterator[AttentionMaps]:
    """Keep the attention maps of a network that runs once within this block, by the plain definitions.

    HiT-SR has no softmax: the correlation of its pixels with the cells of a window is taken, with its bias.
    """
    found = AttentionMaps()
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found.within.pop()
            if isinstance(module, CellPositionBias):
                found.bias = output

        handles.append(module.register_forward_pre_hook(lambda _module, _inputs: found.within.append(name)))
        handles.append(module.register_forward_hook(leave))

    for name, module in network.named_modules():
        watch(name, module)
    try:
        with speedups.use(Speedups.none()), _Listening(found):
            yield found
    finally:
        for handle in handles:
            handle.remove()


class Cosines:
    """Adds up the cosine between the maps of all pairs of layers, picture after picture."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.products: torch.Tensor | None = None

    def add(self, found: AttentionMaps) -> None:
        """Add the maps of a picture; maps of different shapes cannot be compared, nor others than before."""
        count = len(found.maps)
        if self.products is None:
            self.names = list(found.names)
            self.products = torch.zeros(count, count, dtype=torch.float64)
        if found.names != self.names:
            self.products.fill_(torch.nan)
            return
        for a, first in enumerate(found.maps):
            for b, second in enumerate(found.maps[: a + 1]):
                same = first.shape == second.shape
                product = (first * second).sum(dtype=torch.float64).item() if same else torch.nan
                self.products[a, b] += product
                self.products[b, a] = self.products[a, b]

    def result(self) -> Any:
        """Return the cosines of all pairs, NaN where maps have different shapes."""
        assert self.products is not None
        lengths = self.products.diagonal().sqrt()
        return (self.products / torch.outer(lengths, lengths)).numpy()
