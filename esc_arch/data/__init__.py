"""Data sets, registered in BasicSR's DATASET_REGISTRY when imported."""

from esc_arch.data.bicubic_dataset import BicubicDataset

__all__ = ["BicubicDataset"]
