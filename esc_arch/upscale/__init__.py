"""Enlarging pictures: arrays by `upscale_image`, files by the command `python -m esc_arch.upscale`."""

from esc_arch.upscale.array import upscale_image

__all__ = ["upscale_image"]
