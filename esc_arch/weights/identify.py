"""Which network weights belong to, and its arguments, from parameter names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from esc_arch.archs import ESCLTE
from esc_arch.common.errors import UserError
from esc_arch.weights.infer import Arguments, Shapes, recognise

MARK = ".MetaUpsample"  # by which other projects mark checkpoints of ESC-Real-M; it is no weight


@dataclass(frozen=True)
class Identity:
    """A network and the arguments to build it with."""

    network: type[nn.Module]
    arguments: Arguments

    @property
    def scale(self) -> int:
        """How many times larger the network makes images; a network for any scale, where it is not told."""
        return int(self.arguments.get("upscaling_factor") or self.arguments["upscale"])

    @property
    def any_scale(self) -> bool:
        """Whether every call may name another scale."""
        return self.network is ESCLTE

    def build(self, weights: Mapping[str, torch.Tensor]) -> nn.Module:
        """Build the network with these weights in single precision, on the CPU, in evaluation mode."""
        network = self.network(**self.arguments)
        network.load_state_dict(weights, strict=True)
        return network.eval()


def identify(weights: Mapping[str, torch.Tensor], **known: Any) -> Identity:
    """Recognise weights of the ESC family (ESC, -light, -XL, -FP, -Real, -Real-M, ESC+LTE) and of HiT-SR.

    Every argument that changes parameters is inferred. What shapes do not tell keeps its default: `attn_type`, which
    changes no number, the scale of ESC+LTE, and of HiT-SR `img_range` and `base_win_size`. The windows of HiT-SR are
    taken as published where that fits the shapes.

    Args:
        weights: names and tensors, all that the network has and no others.
        known: arguments that are to be taken as given.

    Returns:
        the network and its arguments; building it gives exactly these names and shapes.

    Raises:
        NotRecognisedError: no network has such parameter names.
        UserError: the names are those of a network, but some are missing, left over, or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if not name.endswith(MARK)}
    network, infer = recognise(shapes)
    try:
        arguments = {**infer(shapes, known), **known}
        with torch.device("meta"):  # no memory, whatever the shapes are
            expected = {name: tuple(tensor.shape) for name, tensor in network(**arguments).state_dict().items()}
    except KeyError as error:
        raise UserError(f"The weights are not a whole {network.__name__}: {error} is missing.") from error
    except (ValueError, IndexError, TypeError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(f"The weights do not fit {network.__name__}: {str(error).partition(chr(10))[0]}.") from error
    _require_equal(network.__name__, shapes, expected)
    return Identity(network, arguments)


def _require_equal(network: str, found: Shapes, expected: Shapes) -> None:
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is left over" for name in found if name not in expected]
    problems += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"The weights look like {network}, but {problems[0]}{more}; choose a checkpoint of this network."
        )
