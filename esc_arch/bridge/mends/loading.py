"""Reading checkpoints."""

from __future__ import annotations

from typing import Any

from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.weights.files import find_weights
from esc_arch.weights.fitting import load_into


def load_any_checkpoint() -> None:
    """Load in training and testing what is loaded everywhere else, by the same reader.

    BasicSR's `load_network` knows its own files alone: with EMA it asks for the entry `params_ema` whatever the options
    say and fails where there is none, reads no safetensors, and takes off no prefix but `module.`; what does not fit
    ends in a stack trace, and with `strict_load_g: false` a checkpoint of which nothing fits is as good as any.
    """
    from basicsr.models.base_model import BaseModel

    BaseModel.load_network = load_network


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """Load a checkpoint into a network; stands in for the method of BasicSR's `BaseModel`.

    Args:
        self: the model.
        net: the network, also below DataParallel or DistributedDataParallel.
        load_path: a checkpoint of any kind that `read_weights` reads.
        strict: all names must be those of the network; otherwise what fits is loaded.
        param_key: entry to take, as in `read_weights`.

    Raises:
        UserError: it cannot be read, or does not fit.
    """
    from basicsr.utils import get_root_logger

    net = self.get_bare_model(net)
    name = type(net).__name__
    weights, where = find_weights(load_path, entry=param_key, names=net.state_dict().keys())
    logger = get_root_logger()
    logger.info(f"Loading {name} model from {load_path}, what is in {where}.")
    if not strict:  # otherwise all is loaded, some of it converted, or the error says why not
        self._print_different_keys_loading(net, weights)
    try:
        missing = load_into(net, weights, strict=strict)
        if missing:
            logger.warning(
                f"{load_path} has nothing that fits {len(missing)} tensors, {missing[0]} first: they stay as new."
            )
    except UserError as error:
        raise UserError(f"{load_path} does not fit {name} ({error}); choose a checkpoint of this network.") from error
