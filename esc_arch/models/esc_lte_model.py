"""Training and testing at any scale."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import nn

from esc_arch.models.esc_model import ESCModel

Options = dict[str, Any]


@MODEL_REGISTRY.register()
class ESCLTEModel(ESCModel):
    """Trains `ESCLTE` on the queries of a data set and tests it at the size of GT.

    Mixed precision and torch.compile are options as in ESCModel. The options need no scale: each data set of the
    validation has its own, and a metric whose `crop_border` is empty crops by it. Where there is no GT, the scale at
    the top of the option file is the scale of the result.
    """

    def __init__(self, opt: Options) -> None:
        self.where: Options = {}  # what the network takes besides the image
        super().__init__(opt)
        for net in (self.net_g, getattr(self, "net_g_ema", None)):
            if net is not None:
                net.register_forward_pre_hook(self._add_where, with_kwargs=True)

    @classmethod
    def check(cls, opt: Options) -> None:
        """Check the options of this class.

        Raises:
            ValueError: naming the option.
        """
        super().check(opt)
        for name, value in (("tile", opt.get("tile")), ("val:use_chop", (opt.get("val") or {}).get("use_chop"))):
            if value:
                raise ValueError(f"{name} is no option of ESCLTEModel, which enlarges whole images; remove it")
        network = opt["network_g"]["type"]
        if "size" not in inspect.signature(ARCH_REGISTRY.get(network).forward).parameters:
            raise ValueError(
                f"network_g: ESCLTEModel is for networks of any scale, as ESCLTE, and not for {network}; set "
                "model_type ESCModel"
            )

    def _add_where(self, net: nn.Module, args: tuple[Any, ...], kwargs: Options) -> tuple[tuple[Any, ...], Options]:
        return args, {**kwargs, **self.where}

    def feed_data(self, data: Options) -> None:
        """Take a batch of `BicubicDataset`, or images with or without GT."""
        super().feed_data(data)
        if "coord" in data:
            self.where = {name: data[name].to(self.device) for name in ("coord", "cell")}
        elif "gt" in data:
            self.where = {"size": tuple(data["gt"].shape[-2:])}
        else:
            scale = self.opt["scale"]
            self.where = {"size": tuple(round(side * scale) for side in data["lq"].shape[-2:])}

    def _parts(self) -> Iterator[None]:
        """Put one part of the batch after the other in the place of the batch, with its places."""
        whole = self.where
        for index, _ in enumerate(super()._parts()):
            self.where = {
                name: where.chunk(self.accumulate)[index] if torch.is_tensor(where) else where
                for name, where in whole.items()
            }
            yield
        self.where = whole

    def test(self) -> None:
        """Enlarge `self.lq` into `self.output`; the network itself pads to whole windows."""
        SRModel.test(self)

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate as BasicSR does, with borders of the data set's scale cropped."""
        validation = self.opt["val"]
        scale = dataloader.dataset.opt.get("scale", 1)
        self.opt["val"] = {**validation, "metrics": with_crop_border(validation.get("metrics"), scale) or None}
        try:
            super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        finally:
            self.opt["val"] = validation


def with_crop_border(metrics: Options | None, scale: float) -> Options:
    """Return a copy of the metrics of an option file in which an empty `crop_border` is the scale, rounded up."""
    filled: Options = deepcopy(metrics or {})
    for metric in filled.values():
        if "crop_border" in metric and metric["crop_border"] is None:
            metric["crop_border"] = math.ceil(scale)
    return filled
