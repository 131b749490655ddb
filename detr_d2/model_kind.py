"""What is asked of a model's class: what it gives, how it is fed, and which classes fit it.

Nothing is read off a class's name, so that a class from elsewhere is treated as those here.
"""

from typing import ClassVar

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from .errors import UserError


class ModelKind:
    """A base of meta-architectures, of attributes and class methods alone.

    A registered class that does not have it is fed by `PanopticDatasetMapper` and evaluated for
    boxes alone.

    Attributes:
        gives_panoptic: its results have `panoptic_seg`, with classes in one range.
        gives_masks_of_boxes: it has `masks_of_boxes`, see `PanopticDETR`.
        dataset_mapper: in `DATASET_MAPPER_REGISTRY`, of panoptic training data, where
            `INPUT.DATASET_MAPPER` names none.
    """

    gives_panoptic: ClassVar[bool] = False
    gives_masks_of_boxes: ClassVar[bool] = False
    dataset_mapper: ClassVar[str] = "PanopticDatasetMapper"

    @classmethod
    def gives_instance_masks(cls, cfg: CfgNode) -> bool:
        """Whether `instances` of its results have `pred_masks`."""
        return False

    @classmethod
    def check_classes(cls, cfg: CfgNode, dataset_name: str) -> None:
        """Raise a `UserError` where a model of `cfg` has other classes than the dataset."""

    @classmethod
    def queries_of(cls, cfg: CfgNode) -> tuple[int, tuple[int, ...]] | None:
        """How many segments can be found, and contiguous classes that are not counted.

        None where there is no such limit.
        """
        return None


def kind_of(cfg: CfgNode) -> type[ModelKind]:
    """The class of the model of `cfg`, or `ModelKind` for one that says nothing of itself."""
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {name}, which is not registered: name DETR, PanopticDETR "
            "or UnifiedPanopticFPN, or import the module that registers it, with --import or "
            "IMPORTS."
        )
    kind = META_ARCH_REGISTRY.get(name)
    return kind if isinstance(kind, type) and issubclass(kind, ModelKind) else ModelKind
