"""Trained models beside each other: their results, curves, costs and pictures in one report."""

from .candidates import Candidate, read_candidates
from .compare import compare

__all__ = ["Candidate", "compare", "read_candidates"]
