"""The meta-architectures, which alone know all parts of a model."""

from .detr import DETR
from .panoptic_detr import PanopticDETR
from .panoptic_fpn import UnifiedPanopticFPN

__all__ = ["DETR", "PanopticDETR", "UnifiedPanopticFPN"]
