"""Training models, registered in BasicSR's MODEL_REGISTRY when imported. They subclass BasicSR's."""

from esc_arch.models.esc_lte_model import ESCLTEModel
from esc_arch.models.esc_model import ESCModel
from esc_arch.models.esr_model import ESRModel
from esc_arch.models.hat_model import HATModel, HITModel, RealHATGANModel, RealHATMSEModel

__all__ = ["ESCLTEModel", "ESCModel", "ESRModel", "HATModel", "HITModel", "RealHATGANModel", "RealHATMSEModel"]
