"""DETR and panoptic DETR (Carion et al., arXiv:2005.12872) as a Detectron2 extension.

Importing the package registers the meta-architectures `DETR`, `PanopticDETR` and
`UnifiedPanopticFPN`, the backbones `build_detr_resnet_backbone` and
`build_detr_resnet_fpn_backbone`, and the datasets `shapes_panoptic_{train,val}`.
"""

from importlib.util import find_spec

_HOW_TO_GET = {
    "detectron2": "run `make env` in the repository for a tested copy, or "
    "`pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2`",
    "panopticapi": "run `make env` in the repository, or "
    "`pip install git+https://github.com/cocodataset/panopticapi`",
}
for _module, _remedy in _HOW_TO_GET.items():
    if find_spec(_module) is None:
        raise ImportError(f"detr_d2 needs {_module}, which is not installed here: {_remedy}.")

from . import data, modeling  # noqa: E402  (after the check, so that it speaks first)
from .config import add_detr_config  # noqa: E402

__all__ = ["add_detr_config", "data", "modeling"]
__version__ = "0.1.0"
