"""The model of ESC's and ESC-RIB's own option files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from esc_arch.models.esc_model import ESCModel

Options = dict[str, Any]

HALF_CLIP_AFTER = 50_000  # iterations
MOMENTA = ("step", "exp_avg", "exp_avg_sq")  # of Adam and AdamW


@MODEL_REGISTRY.register()
class ESRModel(ESCModel):
    """ESCModel with the further options of the model of this name in the authors' code (ESC, ICCV 2025).

    Options at the top level of the file:
        use_ema: start from `params_ema` of `pretrain_network_g`, whatever `param_key_g` says.
        use_amp: the same as `amp: fp16`. As in the authors' code, `gradient_clip` then counts for nothing.

    Options of the section `train`:
        gradient_clip: as in ESCModel, but half of it after iteration 50 000.
        reset_momentum_iter: every so many iterations the momenta of Adam and its count of steps start from zero.
        wave_opt: a further loss of output and GT, `l_wave` in the log.
        mesa_opt: a further loss of output and the output of the averaged network, `l_mesa` in the log, once
            `start_ratio` (0.33) of `total_iter` is over; needs `ema_decay`.

    Raises:
        ValueError: an option is out of range, or there is no loss.
    """

    def __init__(self, opt: Options) -> None:
        super().__init__(_as_esc_model(opt))
        if self.is_train and opt.get("use_amp") and opt["train"].get("gradient_clip"):
            get_root_logger().warning(
                "train:gradient_clip is ignored beside use_amp, as in ESC's code; with amp: fp16 instead of use_amp "
                "both count."
            )

    @classmethod
    def check(cls, opt: Options) -> None:
        """Check the options of this class.

        Raises:
            ValueError: naming the option.
        """
        super().check(_as_esc_model(opt))
        if not opt["is_train"]:
            return
        train = opt["train"]
        if not any(train.get(loss) for loss in ("pixel_opt", "perceptual_opt", "wave_opt")):
            raise ValueError("train has no loss; give one of pixel_opt, perceptual_opt and wave_opt")
        if train.get("mesa_opt") and not train.get("ema_decay"):
            raise ValueError("train:mesa_opt needs train:ema_decay, whose averaged network it learns from")
        every = train.get("reset_momentum_iter")
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"train:reset_momentum_iter must be a positive whole number or empty, got {every!r}")

    def init_training_settings(self) -> None:
        """Build the losses beside BasicSR's."""
        train = self.opt["train"]
        further = {"l_wave": train.get("wave_opt"), "l_mesa": dict(train.get("mesa_opt") or {})}
        self.mesa_start = int(further["l_mesa"].pop("start_ratio", 0.33) * train["total_iter"])
        losses = {name: build_loss(loss).to(self.device) for name, loss in further.items() if loss}
        if not train.get("pixel_opt") and not train.get("perceptual_opt"):  # which BasicSR refuses
            self.opt["train"] = {**train, "pixel_opt": train["wave_opt"]}
            super().init_training_settings()
            self.cri_pix = None
        else:
            super().init_training_settings()
        self.further_losses = None
        if losses:
            if self.cri_pix is not None:
                losses = {"l_pix": self.cri_pix, **losses}
            self.cri_pix = self.further_losses = _Losses(losses, self._averaged_output)

    def _averaged_output(self) -> torch.Tensor | None:
        """Compute what the averaged network makes of the batch, once `mesa_opt` has started."""
        if self.iteration < self.mesa_start:
            return None
        with torch.no_grad():
            return self.net_g_ema(self.lq)

    def gradient_clip(self) -> float | None:
        """Return the longest gradient of this iteration, or None."""
        clip = super().gradient_clip()
        if clip is None or self.opt.get("use_amp"):
            return None
        return clip / 2 if self.iteration > HALF_CLIP_AFTER else clip

    def optimize_parameters(self, current_iter: int) -> None:
        """Make a step; start the momenta anew where it is time."""
        super().optimize_parameters(current_iter)
        every = self.opt["train"].get("reset_momentum_iter")
        if every and current_iter % every == 0:
            for state in self.optimizers[0].state.values():
                for name in MOMENTA:
                    if name in state:
                        state[name].zero_()

    def reduce_loss_dict(self, loss_dict: dict[str, torch.Tensor]) -> dict[str, float]:
        """Log each of the losses that were added up, beside BasicSR's others."""
        if self.further_losses is not None:
            others = {name: loss for name, loss in loss_dict.items() if name != "l_pix"}
            loss_dict = {**self.further_losses.values, **others}
        return super().reduce_loss_dict(loss_dict)


class _Losses(nn.Module):
    """The sum of several losses of output and GT; `l_mesa` compares with another output than GT."""

    def __init__(self, losses: dict[str, nn.Module], averaged_output: Callable[[], torch.Tensor | None]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.averaged_output = averaged_output
        self.values: dict[str, torch.Tensor] = {}

    def forward(self, output: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        self.values = {}
        for name, loss in self.losses.items():
            target = self.averaged_output() if name == "l_mesa" else gt
            if target is not None:
                self.values[name] = loss(output, target)
        return sum(self.values.values(), output.new_zeros(()))


def _as_esc_model(opt: Options) -> Options:
    """Write `use_ema` and `use_amp` as ESCModel knows them."""
    opt = dict(opt)
    if opt.get("use_ema"):
        opt["path"] = {**opt["path"], "param_key_g": "params_ema"}
    if opt.get("use_amp"):
        opt["amp"] = opt.get("amp") or "fp16"
    return opt
