"""Training models, registered in BasicSR's MODEL_REGISTRY when imported. They subclass BasicSR's."""

from esc_arch.models.esc_model import ESCModel

__all__ = ["ESCModel"]
