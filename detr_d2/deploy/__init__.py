"""Exported models where there is neither PyTorch nor Detectron2: numpy and onnxruntime alone."""

from .predictor import Instances, OnnxPredictor

__all__ = ["Instances", "OnnxPredictor"]
