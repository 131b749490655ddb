"""DETR and panoptic DETR (Carion et al., arXiv:2005.12872) as a Detectron2 extension.

Importing the package registers the meta-architectures `DETR`, `PanopticDETR` and
`UnifiedPanopticFPN`, the backbones `build_detr_resnet_backbone`, `build_swin_backbone`,
`build_vit_pyramid_backbone` and `build_timm_backbone`, the pyramids over backbones
`build_detr_resnet_fpn_backbone` and `build_fpn_backbone`, and the datasets
`shapes_panoptic_{train,val}`.

Where Detectron2 is not installed, there is `detr_d2.deploy` alone.
"""

from .errors import MissingPackageError
from .requirements import require_training

__all__ = ["add_detr_config", "data", "modeling"]
__version__ = "0.1.0"

try:
    require_training()
except MissingPackageError as error:
    _missing = error

    def __getattr__(name: str):
        """What is missing is said to whoever asks for more than `detr_d2.deploy`."""
        if name == "deploy" or name.startswith("__"):
            raise AttributeError(name)
        raise _missing

else:
    from . import data, modeling
    from .config import add_detr_config
