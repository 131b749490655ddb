"""The official computation of DETR and panoptic DETR, step by step and without any saving.

It takes the weights of `detr_d2.modeling` and nothing else of it, so that the two can be held
against each other: in their results, and in what they cost.
"""

from .model import ReferencePanopticDETR

__all__ = ["ReferencePanopticDETR"]
