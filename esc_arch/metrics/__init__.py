"""Metrics, registered in BasicSR's METRIC_REGISTRY when imported."""

from esc_arch.metrics.folders import score_folder
from esc_arch.metrics.pyiqa_metric import calculate_pyiqa, load_metric

__all__ = ["calculate_pyiqa", "load_metric", "score_folder"]
