"""Which of a dataset's contiguous classes are things, and which are stuff."""

import re
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .errors import UserError

# What Detectron2's standard panoptic datasets have in their metadata, and how a dataset gets it.
_IDS = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
_REMEDY = "register it with DATASETS.REGISTER, or `detr_d2.data.register_panoptic_dataset`"


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
            f"({name}), and that has no panoptic metadata: {_REMEDY}."
        )
    return classes


def things_and_stuff(cfg: CfgNode) -> PanopticClasses:
    """As `panoptic_classes`; all are things in a dataset that does not tell them from stuff."""
    classes = classes_of_metadata(first_dataset(cfg))
    return classes or PanopticClasses(list(range(cfg.MODEL.DETR.NUM_CLASSES)), [])


def classes_of_metadata(name: str) -> PanopticClasses | None:
    """The classes of dataset `name`; None where its metadata tells no things from stuff."""
    metadata = MetadataCatalog.get(name)
    things, stuff = (metadata.get(key) for key in _IDS)
    if things is None or stuff is None:
        return None
    return PanopticClasses(sorted(things.values()), sorted(stuff.values()))


def count_classes(name: str, panoptic: bool) -> int | None:
    """How many classes dataset `name` has, things and stuff; None where its metadata do not say it.

    Args:
        panoptic: things and stuff are to have one range of contiguous classes.

    Raises:
        UserError: where the metadata contradict themselves.
    """
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes")
    classes = classes_of_metadata(name)
    if classes is None and metadata.get("panoptic_json") is not None:
        lacking = [key for key in _IDS if metadata.get(key) is None]
        raise UserError(
            f"Dataset {name} has a panoptic JSON, and its metadata no {' and no '.join(lacking)}, "
            f"so that its classes cannot be counted: {_REMEDY}, which write both."
        )
    if classes is None or not (panoptic or _in_one_range(classes)):
        return None if names is None else len(names)
    count = len(classes.things) + len(classes.stuff)
    wrong = ""
    if not _in_one_range(classes):
        wrong = "does not number them from 0 on in one range, things and stuff together"
    elif names is None or len(names) != count:
        wrong = f"has the names of {len(names or ())} in `thing_classes`, where all are expected"
    if wrong:
        raise UserError(
            f"Dataset {name} has {len(classes.things)} things and {len(classes.stuff)} stuff "
            f"classes, and its metadata {wrong}: {_REMEDY}, and set MODEL.DETR.NUM_CLASSES {count}."
        )
    return count


def normalised(name: str) -> str:
    """Equal for names of classes that differ in case, spaces, dashes and underscores alone."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _in_one_range(classes: PanopticClasses) -> bool:
    numbers = sorted([*classes.things, *classes.stuff])
    return numbers == list(range(len(numbers)))
