"""Which of a dataset's contiguous classes are things, and which are stuff."""

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .errors import UserError


@dataclass(frozen=True)
class PanopticClasses:
    """Contiguous classes of a standard panoptic dataset, each list ascending."""

    things: list[int]
    stuff: list[int]


def first_dataset(cfg: CfgNode) -> str:
    """The dataset whose classes the model has; a `UserError` where `cfg` names none."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    if not names:
        raise UserError(
            "The classes are those of the first dataset of the configuration, and there is none: "
            "set DATASETS.TRAIN or DATASETS.TEST."
        )
    return names[0]


def panoptic_classes(cfg: CfgNode) -> PanopticClasses:
    """The classes of the first dataset of `cfg`, as its metadata has them.

    Raises:
        UserError: where there is no dataset, or its metadata tells no things from stuff.
    """
    name = first_dataset(cfg)
    classes = classes_of_metadata(name)
    if classes is None:
        raise UserError(
            "Which classes are things is read off the first dataset of the configuration "
            f"({name}), and that has no panoptic metadata: set DATASETS.TRAIN to a registered "
            "panoptic dataset."
        )
    return classes


def things_and_stuff(cfg: CfgNode) -> PanopticClasses:
    """As `panoptic_classes`; all are things in a dataset that does not tell them from stuff."""
    classes = classes_of_metadata(first_dataset(cfg))
    return classes or PanopticClasses(list(range(cfg.MODEL.DETR.NUM_CLASSES)), [])


def classes_of_metadata(name: str) -> PanopticClasses | None:
    """The classes of dataset `name`; None where its metadata tells no things from stuff."""
    metadata = MetadataCatalog.get(name)
    things = metadata.get("thing_dataset_id_to_contiguous_id")
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id")
    if things is None or stuff is None:
        return None
    return PanopticClasses(sorted(things.values()), sorted(stuff.values()))
