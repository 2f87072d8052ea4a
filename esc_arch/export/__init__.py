"""Networks as files for other software: ONNX, TorchScript, and PyTorch's exported programs."""

from esc_arch.export.exporting import FORMATS, export

__all__ = ["FORMATS", "export"]
