"""What is measured on a GPU: networks, dtypes, back-ends of the attention and ways to run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from esc_arch.checks.networks import build_checked
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.attention import set_backend
from esc_arch.layers.window import pad_to_multiple

SCALES = (2, 3, 4)
DTYPES = ("fp32", "fp16", "bf16")
EAGER, COMPILED, GRAPH = "eager", "compiled", "CUDA graph"
_LIGHT: dict[str, Any] = {
    "img_size": 64, "depths": [6] * 4, "embed_dim": 60, "num_heads": [6] * 4, "mlp_ratio": 2,
    "img_range": 1.0, "upsampler": "pixelshuffledirect", "resi_connection": "1conv",
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "ESC": {"type": "ESC"},
    "ESC-light": {"type": "ESC", "n_blocks": 3},
    "ESC-FP": {"type": "ESCFP"},
    "HiT-SRF": {"type": "HiT_SRF", "base_win_size": [8, 8], "hier_win_ratios": [0.5, 1, 2, 4, 6, 8], **_LIGHT},
    "SwinIR-light": {"type": "SwinIR", "window_size": 8, **_LIGHT},
}
WHOLE_WINDOWS = {"SwinIR": 8}  # networks that do not pad, and the side of their windows


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        network: a name in NETWORKS.
        scale: upscaling factor.
        dtype: one of DTYPES; fp16 and bf16 by autocast.
        attention: back-end of the window attention, None for the network's own choice.
        plain: compute by the definitions, without any way to be fast.
        mode: EAGER, COMPILED or GRAPH.
        training: forward and backward pass of a batch, in place of enlarging an image.
    """

    network: str
    scale: int
    dtype: str
    attention: str | None = None
    plain: bool = False
    mode: str = EAGER
    training: bool = False

    def build(self, device: str) -> nn.Module:
        """Build the network."""
        scale = {"upscaling_factor" if self.network.startswith("ESC") else "upscale": self.scale}
        network = build_checked({**NETWORKS[self.network], **scale}, "network_g")
        if self.attention is not None:
            set_backend(network, self.attention)
        return network.to(device).train(self.training)

    def window(self) -> int:
        """Return what the sides of the input must be multiples of."""
        return WHOLE_WINDOWS.get(NETWORKS[self.network]["type"], 1)

    def context(self, device: str) -> AbstractContextManager[Any]:
        """Return the context of dtype and speed-ups in which the network runs."""
        stack = ExitStack()
        stack.enter_context(speedups.use(Speedups.none() if self.plain else Speedups()))
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.dtype)
        if dtype:
            stack.enter_context(torch.autocast(device, dtype))
        return stack


def sections() -> Iterator[tuple[str, list[Case]]]:
    """Yield the parts of the report, what the paper's claims need first."""
    claims = [Case("ESC", 4, dtype) for dtype in DTYPES] + [Case("HiT-SRF", 4, dtype) for dtype in DTYPES]
    claims += [Case("ESC", 2, dtype) for dtype in DTYPES]
    claims += [Case("ESC", 2, dtype, "Naive", plain=True) for dtype in DTYPES]
    yield "what the paper claims", claims
    kinds = [(kind, plain) for kind in ("SDPA", "Flex") for plain in (True, False)]
    yield (
        "back-ends of the attention, plain and ours",
        [Case("ESC", 2, dtype, *kind) for dtype in DTYPES for kind in kinds],
    )
    one = Case("ESC", 2, "bf16", training=True)
    steps = [replace(one, attention=kind, plain=True) for kind in ("Naive", "Flex")]
    yield "training step", [replace(case, dtype=dtype) for dtype in ("fp32", "bf16") for case in (*steps, one)]
    modes = [Case("ESC", 2, dtype, mode=mode) for dtype in ("fp32", "bf16") for mode in (COMPILED, GRAPH)]
    yield "compiled, and as a CUDA graph", modes
    yield "networks", [Case(name, scale, dtype) for scale in SCALES for dtype in DTYPES for name in NETWORKS]


def runner(case: Case, device: str, output: tuple[int, int], patch: int, batch: int) -> Callable[[], object]:
    """Prepare a case: a function without arguments that enlarges one image, or makes one training step.

    Args:
        case: what to run.
        device: `cpu` or `cuda`.
        output: height and width of the enlarged image.
        patch: side of the LQ patches of a training step.
        batch: their number.

    Raises:
        RuntimeError: it cannot run here; the message says why.
    """
    network = case.build(device)
    if case.training:
        images = torch.rand(batch, 3, patch, patch, device=device)

        def step() -> None:
            network.zero_grad()
            with case.context(device):
                out = network(images)
            out.float().abs().mean().backward()

        return step
    height, width = (round(side / case.scale) for side in output)
    image = pad_to_multiple(torch.rand(1, 3, height, width, device=device), case.window())
    called: Callable[[torch.Tensor], torch.Tensor] = network
    if case.mode == COMPILED:
        # without a GPU there is nothing to generate code for: what is captured runs as it is
        called = torch.compile(network, backend="inductor" if device == "cuda" else "eager")

    def enlarge() -> torch.Tensor:
        with torch.no_grad(), case.context(device):
            return called(image)

    return _recorded(enlarge, device) if case.mode == GRAPH else enlarge


def _recorded(run: Callable[[], torch.Tensor], device: str) -> Callable[[], object]:
    """Record what a function launches, and replay it."""
    if device != "cuda":
        raise RuntimeError("it needs a GPU")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
