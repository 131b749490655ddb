"""Datasets in COCO panoptic format: a JSON, a folder of images, a folder of RGB-coded PNGs."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.utils.colormap import colormap
from detectron2.utils.file_io import PathManager

from ..errors import UserError
from .coco_json import read_categories, read_coco
from .files import join_inside
from .problems import category_problems, json_problems, raise_first, raise_listed

logger = logging.getLogger(__name__)


def datasets_root() -> Path:
    """Detectron2's dataset folder: $DETECTRON2_DATASETS, or ./datasets."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_from_config(
    cfg, categories_of_weights: Callable[[str], list[dict] | None] = lambda path: None
) -> None:
    """Register the datasets of `DATASETS.REGISTER`; those registered already are left alone.

    A dataset that is neither trained nor tested on may be absent: a configuration inherits it from
    its base, and its files are on another machine. Where one of the others is absent, its classes
    are those that MODEL.WEIGHTS has recorded: a model can be used without its data.

    Args:
        categories_of_weights: the categories that a checkpoint has recorded, in the order of the
            contiguous classes; None where it has not.
    """
    root = Path(cfg.DATASETS.ROOT).expanduser() if cfg.DATASETS.ROOT else datasets_root()
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    for name, paths in cfg.DATASETS.REGISTER.items():
        if len(paths) != 3:
            raise UserError(
                f"DATASETS.REGISTER.{name} is {paths}: give [image folder, PNG folder, JSON]."
            )
        image_root, panoptic_root, panoptic_json = (str(root / path) for path in paths)
        is_here = PathManager.isfile(panoptic_json)
        if not is_here and name in used and name not in DatasetCatalog.list() and cfg.MODEL.WEIGHTS:
            categories = categories_of_weights(cfg.MODEL.WEIGHTS)
            if categories is not None:
                order = [category["name"] for category in categories]
                register_with_categories(
                    name, image_root, panoptic_root, panoptic_json, categories, order
                )
                continue
        if is_here or name in used:
            register_panoptic_dataset(name, image_root, panoptic_root, panoptic_json)


def register_panoptic_dataset(
    name: str, image_root: str, panoptic_root: str, panoptic_json: str
) -> None:
    """Register a dataset under `name`, with all the metadata that evaluators and drawings want.

    Contiguous classes are the things by category id, then the stuff by category id.

    Args:
        image_root: folder of the images that the JSON names.
        panoptic_root: folder of the PNGs that the JSON names.
        panoptic_json: the COCO panoptic JSON, whose `categories` are read now and whose images
            are read when the dataset is used.

    Raises:
        UserError: where the JSON cannot be read, or another dataset has the name.
    """
    if name in DatasetCatalog.list():
        known = MetadataCatalog.get(name)
        if (known.image_root, known.panoptic_root, known.panoptic_json) == (
            image_root,
            panoptic_root,
            panoptic_json,
        ):
            return
        raise UserError(f"There is a dataset {name} with other files already: choose another name.")
    _check_is_there(panoptic_json, f"dataset {name}")
    categories = read_categories(panoptic_json)
    register_with_categories(name, image_root, panoptic_root, panoptic_json, categories)


def _check_is_there(panoptic_json: str, dataset: str) -> None:
    if not PathManager.isfile(panoptic_json):
        raise UserError(
            f"{panoptic_json}, the panoptic JSON of {dataset}, does not exist: set "
            "DATASETS.ROOT (or $DETECTRON2_DATASETS) to the folder that its path starts from."
        )


def register_again(name: str, order: list[str]) -> None:
    """Register a dataset anew, with its contiguous classes in the order of these names."""
    known = MetadataCatalog.get(name)
    paths = (known.image_root, known.panoptic_root, known.panoptic_json)
    categories = read_categories(known.panoptic_json)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    register_with_categories(name, *paths, categories, order)


def register_with_categories(
    name: str,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    categories: list[dict] | None,
    order: list[str] | None = None,
) -> None:
    """As `register_panoptic_dataset`, with the categories given: nothing is read.

    Args:
        order: names of all classes, by contiguous class; None for things, then stuff, by id.
    """
    metadata = metadata_of(categories, panoptic_json, order)
    things = metadata["thing_dataset_id_to_contiguous_id"]
    stuff = metadata["stuff_dataset_id_to_contiguous_id"]
    DatasetCatalog.register(
        name, lambda: load_panoptic_json(image_root, panoptic_root, panoptic_json, things, stuff)
    )
    MetadataCatalog.get(name).set(
        image_root=image_root,
        panoptic_root=panoptic_root,
        panoptic_json=panoptic_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        **metadata,
    )


def metadata_of(
    categories: list[dict] | None, panoptic_json: str, order: list[str] | None = None
) -> dict:
    """What Detectron2's standard panoptic datasets say of their classes.

    `thing_classes` and `stuff_classes` both list all classes, by contiguous id, since things and
    stuff share one range of ids.
    """
    raise_first(category_problems(categories, panoptic_json))
    categories = sorted(categories or [], key=lambda c: (not c["isthing"], c["id"]))
    if order is not None:
        categories.sort(key=lambda c: order.index(c["name"]))
    names = [c["name"] for c in categories]
    # Without colours of their own, Detectron2 would draw each picture in others.
    palette = colormap(rgb=True, maximum=255).astype(int).tolist()
    colors = [tuple(c.get("color", palette[i % len(palette)])) for i, c in enumerate(categories)]
    return {
        "thing_classes": names,
        "stuff_classes": names,
        "thing_colors": colors,
        "stuff_colors": colors,
        "thing_dataset_id_to_contiguous_id": {
            c["id"]: i for i, c in enumerate(categories) if c["isthing"]
        },
        "stuff_dataset_id_to_contiguous_id": {
            c["id"]: i for i, c in enumerate(categories) if not c["isthing"]
        },
    }


def load_panoptic_json(
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    things: dict[int, int],
    stuff: dict[int, int],
) -> list[dict]:
    """Read a COCO panoptic JSON into Detectron2's standard dicts.

    Args:
        things, stuff: from category ids to contiguous classes.
    """
    _check_is_there(panoptic_json, "a dataset")
    content = read_coco(panoptic_json)
    raise_listed(json_problems(content, panoptic_json))
    return dicts_of(content, (image_root, panoptic_root, panoptic_json), things, stuff)


def load_dicts(name: str, filter_empty: bool) -> list[dict]:
    """Detectron2's dicts of a registered dataset.

    Args:
        filter_empty: without images that have no annotations, where those are boxes.
    """
    try:
        return get_detection_dataset_dicts(name, filter_empty=filter_empty)
    except KeyError as error:
        if MetadataCatalog.get(name).get("panoptic_json") is None:
            raise
        raise UserError(
            f"Dataset {name} cannot be loaded: its metadata say nothing of {error}, in "
            "`thing_dataset_id_to_contiguous_id` or `stuff_dataset_id_to_contiguous_id`. Register "
            "it with DATASETS.REGISTER, or `register_panoptic_dataset`, which write both."
        ) from error


def dicts_of(
    content: dict, paths: tuple[str, str, str], things: dict[int, int], stuff: dict[int, int]
) -> list[dict]:
    """As `load_panoptic_json`, of what was read from the JSON, and found right, already.

    Args:
        paths: of images, PNGs and JSON.
    """
    image_root, panoptic_root, panoptic_json = paths
    images = {image["id"]: image for image in content["images"]}
    _warn_of_images_without_annotation(images, content["annotations"], panoptic_json)
    dicts = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        segments_info = []
        for segment in annotation["segments_info"]:
            category = segment["category_id"]
            isthing = category in things
            class_ = things[category] if isthing else stuff[category]
            segments_info.append({**segment, "category_id": class_, "isthing": isthing})
        dicts.append(
            {
                "file_name": join_inside(image_root, image["file_name"], panoptic_json),
                "image_id": annotation["image_id"],
                "height": image.get("height"),
                "width": image.get("width"),
                "pan_seg_file_name": join_inside(
                    panoptic_root, annotation["file_name"], panoptic_json
                ),
                "segments_info": segments_info,
            }
        )
    return dicts


def _warn_of_images_without_annotation(images: dict, annotations: list[dict], path: str) -> None:
    without = images.keys() - {annotation["image_id"] for annotation in annotations}
    if without:
        logger.warning(
            "%s: %d of %d images have no annotation, such as image %s: they are neither trained on "
            "nor evaluated.",
            *(path, len(without), len(images), min(without, key=str)),
        )
