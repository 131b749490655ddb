"""Models for other runtimes: pictures in, boxes and the panoptic map out, checked as written."""

from .adapter import TracingAdapter
from .export import DisagreementError, export_model
from .formats import SUFFIXES
from .geometry import Resize
from .options import PRECISIONS, Options

__all__ = [
    "PRECISIONS",
    "SUFFIXES",
    "DisagreementError",
    "Options",
    "Resize",
    "TracingAdapter",
    "export_model",
]
