"""What the chunked selective scan costs beside the loop over positions that defines it, as MambaIR-light uses it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from esc_arch.benchmark.timing import table, take_turns
from esc_arch.layers.selective_scan import selective_scan

CHANNELS, GROUPS, STATES = 4 * 72, 4, 10  # of MambaIR-light: four directions of 72 channels
Scan = Callable[..., torch.Tensor]


def step_by_step(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor
) -> torch.Tensor:
    """Scan as the recurrence is written, one position after the other; arguments as those of `selective_scan`."""
    groups = b.shape[1]
    a = a.unflatten(0, (groups, -1))  # (G, E/G, N)
    inputs, steps = (tensor.unflatten(1, (groups, -1)).unsqueeze(3).unbind(-1) for tensor in (u, delta))
    state, out = torch.zeros_like(a).expand(u.shape[0], *a.shape), []
    for x, step, add, read in zip(inputs, steps, b.unsqueeze(2).unbind(-1), c.unsqueeze(2).unbind(-1), strict=True):
        state = torch.exp(step * a) * state + (step * x) * add  # (B, G, E/G, N)
        out.append((state * read).sum(dim=-1))
    return torch.stack(out, dim=-1).flatten(1, 2) + d[:, None] * u


def scans(sizes: list[tuple[int, int]], patch: int, batch: int, device: str, rounds: int) -> str:
    """Compare both for images of the `sizes` (H, W), and with gradients for LQ patches; return a table in Markdown."""
    rows = []
    for height, width in sizes:
        inputs = _inputs(1, height * width, device)
        ways = {name: _forward(scan, inputs) for name, scan in _ways().items()}
        rows.append(_row(f"{height} x {width}", ways, rounds, device))
    inputs = [tensor.requires_grad_() for tensor in _inputs(batch, patch * patch, device)]
    ways = {name: _gradients(scan, inputs) for name, scan in _ways().items()}
    rows.append(_row(f"{batch} x {patch} x {patch}, with gradients", ways, rounds, device))
    header = ["selective scan", "loop, ms", "chunks, ms", "loop / chunks", "difference"]
    return table(header, rows)


def _ways() -> dict[str, Scan]:
    return {"loop": step_by_step, "chunks": selective_scan}


def _forward(scan: Scan, inputs: list[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    def run() -> list[torch.Tensor]:
        with torch.no_grad():
            return [scan(*inputs)]

    return run


def _gradients(scan: Scan, inputs: list[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    def run() -> list[torch.Tensor]:
        return list(torch.autograd.grad(scan(*inputs).square().mean(), inputs))

    return run


def _row(title: str, ways: dict[str, Callable[[], list[torch.Tensor]]], rounds: int, device: str) -> list[str]:
    times = take_turns(ways, rounds, device, f"scan, {title}")
    loop, chunks = (way() for way in ways.values())
    apart = max(((x - y).abs().max() / x.abs().max()).item() for x, y in zip(loop, chunks, strict=True))
    first, second = (1000 * time for time in times.values())
    return [title, f"{first:.0f}", f"{second:.0f}", f"{first / second:.1f}", f"{apart:.1e}"]


def _inputs(batch: int, length: int, device: str) -> list[torch.Tensor]:
    u = torch.randn(batch, CHANNELS, length, device=device)
    delta = 0.1 * torch.rand(batch, CHANNELS, length, device=device)  # as the bias of a new network has it
    rates = -torch.arange(1.0, STATES + 1, device=device).repeat(CHANNELS, 1)
    b, c = (torch.randn(batch, GROUPS, STATES, length, device=device) for _ in range(2))
    return [u, delta, rates, b, c, torch.ones(CHANNELS, device=device)]
