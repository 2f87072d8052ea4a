"""Training models, registered in BasicSR's MODEL_REGISTRY when imported. They subclass BasicSR's."""
