"""Curves of runs for the tools that people look at them with: TensorBoard, MLflow, W&B."""
