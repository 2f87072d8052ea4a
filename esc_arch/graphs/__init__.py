"""Networks as graphs for other software: made traceable, written as ONNX, TorchScript or pt2, and run by runtimes."""
