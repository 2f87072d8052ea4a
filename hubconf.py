"""Entry points of torch.hub: `torch.hub.load("user/esc_arch", "esc", "ESC_light_x2")`."""

from __future__ import annotations

from typing import Any

import torch

dependencies = ["torch", "torchvision", "basicsr", "safetensors", "numpy", "PIL", "cv2", "yaml"]


def esc(weights: str = "ESC_light_x2", **arguments: Any) -> torch.nn.Module:
    """Make a network with trained weights.

    Args:
        weights: the name of weights that come with the package, the path of a checkpoint, or "hf:user/name".
        arguments: of the network that are to be taken as given, `attn_type="Naive"` for example.

    Returns:
        the network in evaluation mode, from images (B, 3, H, W), RGB in [0, 1], to (B, 3, S * H, S * W), not clamped.

    Raises:
        esc_arch.errors.UserError: there are no such weights, or no network fits them.
    """
    import esc_arch

    return esc_arch.load(weights, **arguments)


def esc_light_x2() -> torch.nn.Module:
    """Make ESC-light for scale 2 with the weights that come with the package."""
    return esc("ESC_light_x2")


def esc_light_x3() -> torch.nn.Module:
    """Make ESC-light for scale 3 with the weights that come with the package."""
    return esc("ESC_light_x3")


def esc_light_x4() -> torch.nn.Module:
    """Make ESC-light for scale 4 with the weights that come with the package."""
    return esc("ESC_light_x4")


def esc_light_x2_photo() -> torch.nn.Module:
    """Make ESC-light for scale 2 with the weights for noisy and compressed photographs that come with the package."""
    return esc("ESC_light_x2_photo")


def esc_light_x4_photo() -> torch.nn.Module:
    """Make ESC-light for scale 4 with the weights for noisy and compressed photographs that come with the package."""
    return esc("ESC_light_x4_photo")
