"""BasicSR's SRModel with what a transformer for super-resolution needs around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn
from torch.torch_version import TorchVersion

from esc_arch.layers.window import pad_to_multiple

# On a CPU the gradients that older compilers generate are wrong: torch 2.13 writes beyond the memory of a sum over
# several threads, 2.6 stops at an assertion. 2.15 is right, what lies between was not tried.
COMPILES_ON_CPU = "2.15"
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@MODEL_REGISTRY.register()
class ESCModel(SRModel):
    """Trains and tests any network, with mixed precision and torch.compile as options of the option file.

    Options at the top level of the file, both off by default:
        amp: `bf16` or `fp16`; the network's forward pass in training runs under autocast, the loss and the weights stay
            fp32. fp16 scales the gradients (the scale is found anew after a resume). Validation is fp32.
        compile: compile the network for training.

    In evaluation the input is padded by reflection to a multiple of `network_g.window_size` (where there is one) and
    the output is cropped, as in the paper's protocol and in BasicSR's SwinIRModel, for images of any size.

    Raises:
        ValueError: `amp` is unknown, `amp` or `compile` is combined with DataParallel, or `compile` is asked for on a
            CPU where this torch cannot do it.
    """

    lq: torch.Tensor
    output: torch.Tensor
    optimizer_g: Any

    def __init__(self, opt: dict[str, Any]) -> None:
        self.amp_dtype = amp_dtype(opt)
        device = "cuda" if opt["num_gpu"] != 0 else "cpu"
        self.scaler = torch.amp.GradScaler(device, enabled=self.amp_dtype is torch.float16)
        super().__init__(opt)

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
        """Create the optimizer as BasicSR does; with fp16, step it through the scaler."""
        super().setup_optimizers()
        if self.scaler.is_enabled():
            self.optimizer_g = _ScaledOptimizer(self.optimizer_g, self.scaler)

    def test(self) -> None:
        """Enlarge `self.lq` (1, 3, H, W) into `self.output`, padded to whole windows in between."""
        lq = self.lq
        scale, (height, width) = self.opt.get("scale", 1), lq.shape[-2:]
        window = self.opt["network_g"].get("window_size", 1)
        self.lq = pad_to_multiple(lq, window if isinstance(window, int) else 1)
        super().test()
        self.output = self.output[..., : height * scale, : width * scale]
        self.lq = lq


class _ScaledOptimizer:
    """What SRModel calls of an optimizer, with the gradients unscaled and steps with infinite ones left out."""

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.optimizer = optimizer
        self.scaler = scaler

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


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
