"""Evaluators: panoptic quality, AP of boxes and masks, speed, and the page of results."""

from .build import build_evaluator, results_folder

__all__ = ["build_evaluator", "results_folder"]
