"""What BasicSR imports and newer libraries have removed."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def restore_functional_tensor() -> None:
    """Restore `torchvision.transforms.functional_tensor`, removed in torchvision 0.17.

    `basicsr.data.degradations` imports `rgb_to_grayscale` from it; the public function of the same name computes the
    same.
    """
    name = "torchvision.transforms.functional_tensor"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, "Stands in for the module that torchvision 0.17 removed.")
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
