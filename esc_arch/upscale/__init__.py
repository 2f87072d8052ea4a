"""Enlarging pictures: arrays by `upscale_image`, files by `upscale_file` and `python -m esc_arch.upscale`."""

from esc_arch.upscale.array import upscale_image
from esc_arch.upscale.single import Enlarged, upscale_file

__all__ = ["Enlarged", "upscale_file", "upscale_image"]
