"""Which dataset mapper a model is fed by."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from ..part_registry import PartRegistry
from .augmentation import build_augmentations
from .dataset_mapper import PanopticDatasetMapper
from .panoptic_fpn_mapper import PanopticFPNDatasetMapper

DATASET_MAPPER_REGISTRY = PartRegistry(
    "DATASET_MAPPER",
    key="INPUT.DATASET_MAPPER",
    needs=("__call__",),
    contract="""
Callables from a dict of a dataset to what the model is trained on, built as `entry(cfg)`. A dict
has `file_name`, `image_id`, `height`, `width` and, of a panoptic dataset, `pan_seg_file_name` and
`segments_info`, or else `annotations`. DETR's models want

* image: (3, h, w) uint8.
* instances: T Instances with `gt_boxes` (pixels), `gt_classes` and, if they are not all 1,
  `gt_weights` (T,) float32: how much each counts in the losses.
* segment_map (PanopticDETR): (h, w) integer, t + 1 where instance t is, 0 at VOID.
""",
)
DATASET_MAPPER_REGISTRY.register(PanopticDatasetMapper)
DATASET_MAPPER_REGISTRY.register(PanopticFPNDatasetMapper)


@DATASET_MAPPER_REGISTRY.register()
def BoxDatasetMapper(cfg: CfgNode) -> DatasetMapper:
    """Detectron2's, of instances, with DETR's augmentation."""
    augmentations = build_augmentations(cfg, is_train=True)
    return DatasetMapper(cfg, is_train=True, augmentations=augmentations)


def build_training_mapper(cfg: CfgNode, of_model: str, is_panoptic: bool) -> Callable[[dict], dict]:
    """The mapper that `INPUT.DATASET_MAPPER` names, or else the one that fits model and data.

    Args:
        of_model: of panoptic data, for this model.
        is_panoptic: the dataset has segments; otherwise it has boxes.
    """
    name = cfg.INPUT.DATASET_MAPPER or (of_model if is_panoptic else "BoxDatasetMapper")
    return DATASET_MAPPER_REGISTRY.build(name, cfg)
