from .build import build_evaluator, results_folder

__all__ = ["build_evaluator", "results_folder"]
