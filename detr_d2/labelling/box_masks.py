"""Masks of objects of which there are boxes alone, drawn by a model."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ..classes import first_dataset
from ..data.checks import check_listed_size
from ..data.coco_json import read_coco
from ..data.depth import GreyLevels
from ..data.files import join_inside
from ..data.images import read_image
from ..data.preparation import Picture
from ..data.preparation.file_names import found_pictures
from ..data.preparation.instances import run_lengths
from ..data.problems import (
    Problem,
    image_problems,
    is_list_of_dicts,
    raise_first,
    raise_listed,
    remedy_for_list,
)
from ..engine import Predictor
from ..errors import UserError
from ..model_kind import kind_of
from .class_map import model_classes
from .model_labels import check_model


class BoxMasks:
    """A model that draws the masks of boxes that a person gave."""

    def __init__(self, cfg: CfgNode):
        if not kind_of(cfg).gives_masks_of_boxes:
            raise UserError(
                f"{cfg.MODEL.META_ARCHITECTURE} draws no masks of given boxes: choose the "
                "configuration of a PanopticDETR."
            )
        check_model(cfg)
        classes = model_classes(first_dataset(cfg))
        self.levels = GreyLevels.from_config(cfg)
        self.predictor = Predictor(cfg)
        self.number_of = {c.name.casefold(): c.number for c in classes if c.isthing}

    def __call__(self, image: np.ndarray, boxes: np.ndarray, names: list[str]) -> np.ndarray:
        """
        Args:
            image: (height, width, 3) uint8, BGR.
            boxes: (T, 4), (x, y, width, height) in pixels of the image.
            names: of the T classes; the model may have others.

        Returns:
            (T, height, width) bool.
        """
        prepared = self.predictor.prepare(image)
        size = tuple(prepared["image"].shape[-2:])
        scale = np.array([size[1] / image.shape[1], size[0] / image.shape[0]] * 2)
        corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1) * scale
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.from_numpy(corners.astype(np.float32)))
        instances.gt_boxes.clip(size)
        numbers = [self.number_of.get(name.casefold(), -1) for name in names]
        instances.gt_classes = torch.tensor(numbers, dtype=torch.int64)
        masks = self.predictor.model.masks_of_boxes({**prepared, "instances": instances})
        return masks.cpu().numpy()


@dataclass(frozen=True)
class BoxedImages:
    """COCO instances, some of them boxes alone.

    Attributes:
        content: of the JSON.
        image_root: folder of the images.
        instances_json: names the JSON in errors.
    """

    content: dict
    image_root: Path
    instances_json: Path

    @classmethod
    def read(cls, image_root: Path, instances_json: Path) -> "BoxedImages":
        """A `UserError` where images, categories or boxes are wrong, all boxes at once."""
        content = read_coco(instances_json)
        for key in ("images", "annotations", "categories"):
            if not is_list_of_dicts(content, key):
                remedy = remedy_for_list(content, key, "instances")
                raise UserError(f"{instances_json} has no list {key}{remedy}")
        raise_first(image_problems(content["images"], str(instances_json)))
        raise_listed(_box_problems(content, instances_json))
        return cls(content, image_root, instances_json)

    def add_masks(self, draw: BoxMasks) -> tuple[int, int]:
        """Give each annotation without `segmentation` one, as run lengths.

        Returns:
            How many, and in how many of them the model sees nothing: these are their whole boxes.
        """
        bare = [a for a in self.content["annotations"] if not a.get("segmentation")]
        if not bare:
            raise UserError(
                f"{self.instances_json}: all of its annotations have a segmentation, so there is "
                "nothing to draw; --compare says how well the model would."
            )
        unseen = 0
        for annotation, mask, is_seen in self._drawn(draw, bare):
            run = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotation["segmentation"] = {**run, "counts": run["counts"].decode()}
            annotation["area"] = int(mask.sum())
            unseen += not is_seen
        return len(bare), unseen

    def compare(self, draw: BoxMasks) -> dict[str, list[float]]:
        """The IoU of each mask that there is with what the model draws in its box, by class."""
        images = {image["id"]: image for image in self.content["images"]}
        masked = [
            a
            for a in self.content["annotations"]
            if a.get("segmentation") and not a.get("iscrowd") and _is_box(a, images[a["image_id"]])
        ]
        names = {c["id"]: c["name"] for c in self.content["categories"]}
        found: dict[str, list[float]] = {name: [] for name in names.values()}
        for annotation, mask, _ in self._drawn(draw, masked):
            height, width = mask.shape
            run = run_lengths(annotation, height, width, self.instances_json)
            true = coco_mask.decode(run).astype(bool)
            iou = (true & mask).sum() / (true | mask).sum()
            found[names[annotation["category_id"]]].append(float(iou))
        return found

    def _drawn(self, draw: BoxMasks, chosen: list[dict]) -> Iterator[tuple[dict, np.ndarray, bool]]:
        """Each of the chosen annotations, its mask (height, width), and whether the model sees
        anything in its box; where it does not, the mask is the whole box."""
        names = {c["id"]: c["name"] for c in self.content["categories"]}
        of_image = defaultdict(list)
        for annotation in chosen:
            of_image[annotation["image_id"]].append(annotation)
        images = [image for image in self.content["images"] if of_image[image["id"]]]
        pictures = [Picture(image["file_name"], image["id"]) for image in images]
        pictures, _ = found_pictures(pictures, self.image_root, self.instances_json)
        for listed, picture in zip(tqdm(images, "Drawing"), pictures):
            where = f"image {picture.image_id}"
            path = join_inside(self.image_root, picture.file_name, where)
            image = read_image(path, "BGR", f"({where})", draw.levels)
            sizes = {key: listed[key] for key in ("height", "width") if listed.get(key)}
            listed = {"file_name": path, "image_id": picture.image_id, **sizes}
            check_listed_size(listed, image.shape[:2])
            annotations = of_image[picture.image_id]
            boxes = np.array([a["bbox"] for a in annotations], dtype=float)
            masks = draw(image, boxes, [names[a["category_id"]] for a in annotations])
            for annotation, mask in zip(annotations, masks):
                is_seen = bool(mask.any())
                whole = _whole_box(annotation["bbox"], *mask.shape)
                yield annotation, mask if is_seen else whole, is_seen


def _box_problems(content: dict, path: Path) -> Iterator[Problem]:
    images = {image["id"]: image for image in content["images"]}
    categories = {category.get("id") for category in content["categories"]}
    for annotation in content["annotations"]:
        where = f"{path}, annotation {annotation.get('id')}"
        if annotation.get("image_id") not in images:
            yield Problem(
                "of no image",
                f"{where} is of image {annotation.get('image_id')!r}, which is not in `images`: "
                "add it.",
            )
        elif annotation.get("category_id") not in categories:
            yield Problem(
                "of no category",
                f"{where} has category {annotation.get('category_id')!r}, which is not in "
                "`categories`: add the category or change the annotation.",
            )
        elif not (
            annotation.get("segmentation") or _is_box(annotation, images[annotation["image_id"]])
        ):
            yield Problem(
                "without a box",
                f"{where} has the bbox {annotation.get('bbox')!r}: give [x, y, width, height] in "
                "pixels, of a box that has some of them in its image.",
            )


def _is_box(annotation: dict, image: dict) -> bool:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        return False
    x, y, width, height = box
    sides = image.get("width") or math.inf, image.get("height") or math.inf
    has_pixels = x < sides[0] and y < sides[1] and x + width > 0 and y + height > 0
    return width > 0 and height > 0 and has_pixels


def _whole_box(box: list[float], height: int, width: int) -> np.ndarray:
    """(height, width) bool, the pixels that a box (x, y, width, height) overlaps."""
    x0, y0 = (max(0, math.floor(start)) for start in box[:2])
    x1, y1 = (math.ceil(start + side) for start, side in zip(box[:2], box[2:]))
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask
