"""Peak memory of a forward pass."""

from __future__ import annotations

import contextlib
import gc
import sys

import torch

MEANING = {
    "cuda": "peak memory that PyTorch allocated on the GPU, weights and input included (max_memory_allocated)",
    "cpu": "peak resident set of the process above its resident set just before the first forward pass",
}
MIB = 2**20


class PeakMemory:
    """Watches the memory of this process from its creation on.

    Args:
        device: `cpu` or `cuda`.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.before = 0
        gc.collect()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        # Linux forgets the peak so far, so that importing and building do not hide that of the forward pass
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as switch:
            switch.write("5")
        self.before = _status("VmRSS") or 0

    def mebibytes(self) -> float | None:
        """Return the peak in MiB, None where the system does not tell."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / MIB
        peak = _status("VmHWM")
        return None if peak is None else max(peak - self.before, 0) / MIB


def fresh_pages() -> int | None:
    """Count the pages that the system has handed to this process so far, None where it does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _status(field: str) -> int | None:
    """Read a size in bytes that the system keeps of this process."""
    with contextlib.suppress(OSError), open("/proc/self/status") as lines:
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), None)
    if field == "VmHWM" and sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
