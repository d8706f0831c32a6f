"""Policies as files that need neither this package nor SB3: ONNX and TorchScript."""
