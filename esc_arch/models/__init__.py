"""Training models, registered in BasicSR's MODEL_REGISTRY when imported. They subclass BasicSR's."""

from esc_arch.models.esc_lte_model import ESCLTEModel
from esc_arch.models.esc_model import ESCModel

__all__ = ["ESCLTEModel", "ESCModel"]
