"""The models of HAT's option files, which ESC-Real's name too, and that of HiT-SR's."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.losses import gradient_penalty_loss
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from esc_arch.models.esc_model import ESCModel
from esc_arch.models.evaluation import Evaluation, check_tile

Options = dict[str, Any]


@MODEL_REGISTRY.register()
class HATModel(ESCModel):
    """ESCModel, whose option `tile` comes from the model of this name (HAT, CVPR 2023)."""


@MODEL_REGISTRY.register()
class HITModel(ESCModel):
    """ESCModel, whose option `val: use_chop` comes from the model of this name (HiT-SR, ECCV 2024)."""


@MODEL_REGISTRY.register()
class RealHATMSEModel(Evaluation, RealESRNetModel):
    """BasicSR's RealESRNetModel that tests as `Evaluation` says."""

    @classmethod
    def check(cls, opt: Options) -> None:
        """Check the options of this class; raises ValueError."""
        check_tile(opt)


@MODEL_REGISTRY.register()
class RealHATGANModel(Evaluation, RealESRGANModel):
    """BasicSR's RealESRGANModel that tests as `Evaluation` says, without its loss of artefacts.

    Options of the section `train`, beside BasicSR's:
        gan_opt: use_gp (false) and gp_lambda (10): a gradient penalty of the discriminator between `gan_gt` and the
            output, `gp_loss` in the log. In the authors' code the two cannot be used.
        ldl_opt: ignored, as in the authors' code.
    """

    gt: torch.Tensor
    gt_usm: torch.Tensor
    optimizer_d: Any

    @classmethod
    def check(cls, opt: Options) -> None:
        """Check the options of this class; raises ValueError."""
        check_tile(opt)

    def init_training_settings(self) -> None:
        """Set up as BasicSR does, with the penalty in the step of the discriminator."""
        train = self.opt["train"]
        gan = dict(train["gan_opt"])
        use_penalty, self.penalty_weight = gan.pop("use_gp", False), gan.pop("gp_lambda", 10)
        self.penalty: dict[str, torch.Tensor] = {}
        if train.get("ldl_opt"):
            get_root_logger().warning(
                "train:ldl_opt is ignored by RealHATGANModel, as in HAT's code; RealESRGANModel has this loss."
            )
        self.opt["train"] = {**train, "gan_opt": gan, "ldl_opt": None}
        super().init_training_settings()
        if use_penalty:
            self.optimizer_d = _Penalised(self.optimizer_d, self)

    def add_penalty(self) -> None:
        """Add the gradient of the penalty to that of the discriminator."""
        real = self.gt if self.opt["gan_gt_usm"] is False else self.gt_usm
        loss = self.penalty_weight * gradient_penalty_loss(self.net_d, real, self.output.detach())
        loss.backward()
        self.penalty = {"gp_loss": loss.detach()}

    def reduce_loss_dict(self, loss_dict: dict[str, torch.Tensor]) -> dict[str, float]:
        """Log the penalty too."""
        return super().reduce_loss_dict({**loss_dict, **self.penalty})


class _Penalised:
    """What RealESRGANModel calls of the discriminator's optimizer, with the penalty before each step."""

    def __init__(self, optimizer: torch.optim.Optimizer, model: RealHATGANModel) -> None:
        self.optimizer = optimizer
        self.model = model

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        self.model.add_penalty()
        self.optimizer.step()
