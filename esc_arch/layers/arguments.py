"""Checks of constructor arguments and inputs, so that mistakes are named where they are made."""

import torch


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def require_image(x: torch.Tensor, channels: int, name: str = "input") -> None:
    """Raise ValueError unless `x` is a batch of images (B, `channels`, H, W) with H, W >= 1."""
    if x.dim() != 4 or x.shape[1] != channels or x.shape[2] < 1 or x.shape[3] < 1:
        raise ValueError(f"{name} must have shape (B, {channels}, H, W) with H, W >= 1, got {tuple(x.shape)}")


def require_scale(upscaling_factor: int) -> None:
    """Raise ValueError unless the scale is a whole number from 1 on."""
    if upscaling_factor < 1 or upscaling_factor != int(upscaling_factor):
        raise ValueError(f"upscaling_factor must be a whole number of at least 1, got {upscaling_factor}")
