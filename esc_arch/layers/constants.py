"""Tensors that follow from the arguments of a module, which checkpoints need not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class WithConstants(nn.Module):
    """A module that has constants as buffers.

    A network that was built on the device `meta`, without memory, gets its weights by `load_state_dict(assign=True)`.
    Its constants are computed then, on the device of the weights.
    """

    def constants(self) -> Mapping[str, torch.Tensor]:
        """Compute the constants, by name, on the device that is torch's default when this is called."""
        raise NotImplementedError

    def add_constants(self, persistent: bool = False) -> None:
        """Register the constants as buffers; `persistent` ones are written to checkpoints."""
        for name, tensor in self.constants().items():
            self.register_buffer(name, tensor, persistent=persistent)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """Fill in what the checkpoint lacks; torch hands over a copy of the caller's dictionary."""
        values = (value for name, value in state_dict.items() if name.startswith(prefix))
        weights = next((value for value in values if isinstance(value, torch.Tensor)), None)
        assigns = local_metadata.get("assign_to_params_buffers", False)
        with torch.device("cpu" if weights is None else weights.device):
            constants = self.constants()
        for name, tensor in constants.items():
            buffer = self.get_buffer(name)
            if assigns and buffer.is_meta:
                setattr(self, name, tensor.to(buffer.dtype))
            if name not in self._non_persistent_buffers_set:
                state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)
