"""DETR and panoptic DETR (Carion et al., arXiv:2005.12872) as a Detectron2 extension.

Importing the package registers the meta-architectures `DETR`, `PanopticDETR` and
`UnifiedPanopticFPN`, the backbones `build_detr_resnet_backbone`, `build_swin_backbone`,
`build_vit_pyramid_backbone` and `build_timm_backbone`, the pyramids over backbones
`build_detr_resnet_fpn_backbone` and `build_fpn_backbone`, and the datasets
`shapes_panoptic_{train,val}`.
"""

from .requirements import require

for _module in ("detectron2", "cv2"):  # Detectron2's drawing imports OpenCV and does not bring it
    require(_module)

from . import data, modeling  # noqa: E402  (after the check, so that it speaks first)
from .config import add_detr_config  # noqa: E402

__all__ = ["add_detr_config", "data", "modeling"]
__version__ = "0.1.0"
