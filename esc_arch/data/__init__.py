"""Data sets, registered in BasicSR's DATASET_REGISTRY when imported."""

from esc_arch.data.bicubic_dataset import BicubicDataset
from esc_arch.data.peers_datasets import DownsampleImageDataset, ImageNetPairedDataset

__all__ = ["BicubicDataset", "DownsampleImageDataset", "ImageNetPairedDataset"]
