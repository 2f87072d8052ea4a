"""BasicSR's SRModel with what a transformer for super-resolution needs around it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.torch_version import TorchVersion

from esc_arch.archs.merging import merge_branches
from esc_arch.models.evaluation import Evaluation, check_tile
from esc_arch.models.steps import Steps, check_steps

# On a CPU the gradients that older compilers generate are wrong: torch 2.13 writes beyond the memory of a sum over
# several threads, 2.6 stops at an assertion. 2.15 is right, what lies between was not tried.
COMPILES_ON_CPU = "2.15"
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@MODEL_REGISTRY.register()
class ESCModel(Evaluation, SRModel):
    """Trains and tests any network, with mixed precision, torch.compile and more as options of the option file.

    Options at the top level of the file, all off by default:
        amp: `bf16` or `fp16`; the network's forward pass in training runs under autocast, the loss and the weights stay
            fp32. fp16 scales the gradients, and resuming goes on with the scale. Validation is fp32.
        compile: compile the network for training.
        tile: enlarge in tiles when validating and testing, see `Evaluation`.

    Options of the section `train`, all off by default:
        gradient_clip: the gradient of all weights together is made no longer than this (its Euclidean norm).
        accumulate: a batch goes through the network in this many equal parts, whose gradients are added up before the
            weights are changed. `batch_size_per_gpu` stays the batch of a step, an iteration stays a step, and the
            result that of the whole batch to rounding; the memory is that of a part. It must divide the batch.
        ema_start: up to this iteration the averaged weights (`ema_decay`) are those of the network.

    Raises:
        ValueError: an option is out of range, `amp` or `compile` is combined with DataParallel, or `compile` is asked
            for on a CPU where this torch cannot do it.
    """

    optimizer_g: Any
    gt: torch.Tensor
    log_dict: dict[str, float]

    def __init__(self, opt: dict[str, Any]) -> None:
        self.check(opt)
        self.amp_dtype = amp_dtype(opt)
        train = opt.get("train") or {}
        self.accumulate = train.get("accumulate") or 1
        self.ema_start = train.get("ema_start") or 0
        self.iteration, self.is_last_part = 0, True
        device = "cuda" if opt["num_gpu"] != 0 else "cpu"
        self.scaler = torch.amp.GradScaler(device, enabled=self.amp_dtype is torch.float16)
        super().__init__(opt)
        if not self.is_train:
            merge_branches(self.get_bare_model(self.net_g))

    @classmethod
    def check(cls, opt: dict[str, Any]) -> None:
        """Check the options of this class.

        Raises:
            ValueError: naming the option.
        """
        amp_dtype(opt)
        check_tile(opt)
        if opt["is_train"]:
            check_steps(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move the network to its device and switch on what the options ask for, below any parallel wrapper."""
        if self.is_train and (self.amp_dtype is not None or self.opt.get("compile")):
            net.forward = self._training_forward(net)  # type: ignore[method-assign]
        return super().model_to_device(net)

    def _training_forward(self, net: nn.Module) -> Callable[..., torch.Tensor]:
        """Make a forward function that is compiled and under autocast in training, and the plain one in evaluation."""
        plain = net.forward
        # all batches of a training have one size
        fast = torch.compile(plain, dynamic=False) if self.opt.get("compile") else plain

        def forward(x: torch.Tensor, **where: Any) -> torch.Tensor:
            if not net.training:
                return plain(x, **where)
            with torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
                out = fast(x, **where)
            out = out.float()
            if out.requires_grad and self.scaler.is_enabled():
                # Scaling the gradient where it enters the network is scaling the loss, but the log keeps the true loss.
                out.register_hook(self.scaler.scale)
            return out

        return forward

    def setup_optimizers(self) -> None:
        """Create the optimizer as BasicSR does; step it through the scaler, clipped, and after all parts of a batch."""
        super().setup_optimizers()
        self.optimizer_g = Steps(self.optimizer_g, self.scaler)

    def gradient_clip(self) -> float | None:
        """Return the longest gradient of this iteration, or None."""
        return self.opt["train"].get("gradient_clip")

    def optimize_parameters(self, current_iter: int) -> None:
        """Make a step of BasicSR on the batch, or on each of its parts."""
        self.iteration = current_iter
        logs = []
        self.optimizer_g.prepare(self.accumulate, self.gradient_clip())
        for index, _ in enumerate(self._parts()):
            self.is_last_part = index == self.accumulate - 1
            waits = isinstance(self.net_g, DistributedDataParallel) and not self.is_last_part
            with self.net_g.no_sync() if waits else contextlib.nullcontext():
                super().optimize_parameters(current_iter)
            logs.append(self.log_dict)
        self.log_dict = {name: sum(log[name] for log in logs) / len(logs) for name in logs[0]}

    def _parts(self) -> Iterator[None]:
        """Put one part of the batch after the other in the place of the batch."""
        whole = self.lq, self.gt
        for self.lq, self.gt in zip(*(batch.chunk(self.accumulate) for batch in whole), strict=True):
            yield
        self.lq, self.gt = whole

    def model_ema(self, decay: float = 0.999) -> None:
        """Average the weights as BasicSR does, once in an iteration and only from `ema_start` on."""
        if self.is_last_part:
            super().model_ema(0 if self.iteration <= self.ema_start else decay)


def amp_dtype(opt: dict[str, Any]) -> torch.dtype | None:
    """Read and check the options `amp` and `compile`; return the dtype of autocast, or None."""
    amp = opt.get("amp")
    if amp is not None and amp not in AMP_DTYPES:
        raise ValueError(f"amp must be one of {', '.join(AMP_DTYPES)} or empty, got {amp!r}")
    if (amp or opt.get("compile")) and not opt["dist"] and opt["num_gpu"] > 1:
        raise ValueError(
            "amp and compile cannot be used with several GPUs in one process; start the training with torchrun and "
            "--launcher pytorch, or set num_gpu to 1"
        )
    if opt.get("compile") and opt["num_gpu"] == 0 and TorchVersion(torch.__version__) < COMPILES_ON_CPU:
        raise ValueError(
            f"compile on a CPU needs torch {COMPILES_ON_CPU} or newer, found {torch.__version__}, which generates "
            "wrong gradients; set compile to false"
        )
    return AMP_DTYPES[amp] if amp else None
