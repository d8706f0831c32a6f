"""Policies as ONNX and TorchScript files, which need neither this package nor SB3."""
