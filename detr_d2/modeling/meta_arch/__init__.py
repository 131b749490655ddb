from .detr import DETR
from .panoptic_detr import PanopticDETR

__all__ = ["DETR", "PanopticDETR"]
