"""Checkpoint to bundle: the ONNX model, and scoring with it."""
