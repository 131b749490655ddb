"""How a model learns: a training that is followed, its curve, and pictures of its stages."""

from .curve import Evaluation, draw_learning, evaluations
from .follow import follow
from .stages import Stage, draw_stages, stages_of

__all__ = [
    "Evaluation",
    "Stage",
    "draw_learning",
    "draw_stages",
    "evaluations",
    "follow",
    "stages_of",
]
