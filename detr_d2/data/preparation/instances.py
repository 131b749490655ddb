"""COCO's instances JSON: polygons and run-length masks, which may overlap."""

import json
from collections import defaultdict
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ...errors import UserError
from ..coco_json import read_coco
from ..problems import (
    category_problems,
    image_problems,
    is_list_of_dicts,
    raise_first,
    remedy_for_list,
)
from .annotation import Annotation, BadAnnotation, Canvas, Segment
from .categories import read_categories
from .file_names import found_pictures
from .foreign import other_format
from .kinds import (
    AS_ANNOTATED,
    BACKGROUND,
    Kinds,
    leave_out_roots,
    without_pseudo_classes,
)
from .label_maps import SAME_NAME, add_stuff, read_label_map
from .polygons import check_units, is_elsewhere, polygons_of, reaches_beyond
from .source import Picture, Source, listed_size_of

_ELSEWHERE = "objects are not where their bbox says: look whether they were read rightly"
_BEYOND = "objects reach beyond their image: look whether it has the size that was annotated"


def from_instances(
    image_root: Path,
    instances_json: Path,
    stuff_root: Path | None = None,
    stuff_categories: Path | None = None,
    background: str = "",
    kinds: Kinds = AS_ANNOTATED,
    ignore_crowd: bool = False,
) -> Source:
    """Convert instances: things, and stuff where a category's `isthing` or `kinds` say so.

    Args:
        stuff_root: folder of label maps for the pixels that no instance covers, named as the
            images are, with .png.
        stuff_categories: what is in them, see `read_categories`.
        background: name of a stuff class for all other pixels; empty leaves them VOID.
        ignore_crowd: `iscrowd` 1 is an object like any other.
    """
    content = read_coco(instances_json)
    if whose := other_format(content):
        raise UserError(f"{instances_json} is {whose}.")
    return from_content(
        *(content, instances_json, image_root, stuff_root, stuff_categories),
        background=background,
        kinds=kinds,
        ignore_crowd=ignore_crowd,
    )


def from_content(
    content: dict,
    instances_json: Path,
    image_root: Path,
    stuff_root: Path | None = None,
    stuff_categories: Path | None = None,
    background: str = "",
    kinds: Kinds = AS_ANNOTATED,
    ignore_crowd: bool = False,
    bad: tuple[BadAnnotation, ...] = (),
) -> Source:
    """As `from_instances`, of what was read from `instances_json` already.

    Args:
        bad: annotations that could not be read.
    """
    content, none = _without_nothing(content, instances_json)
    for key in ("images", "annotations", "categories"):
        if not is_list_of_dicts(content, key):
            remedy = remedy_for_list(content, key, "instances")
            raise UserError(f"{instances_json} has no list {key}{remedy}")
    _check_masks(content["annotations"], instances_json)
    check_units(content["annotations"], instances_json)
    categories, notes = leave_out_roots(content["categories"], content["annotations"])
    things = [{**c, "isthing": c.get("isthing", 1)} for c in categories]
    raise_first(category_problems(things, str(instances_json)))
    things, pseudo, more_notes = without_pseudo_classes(things, content["annotations"], kinds)
    if not things:
        raise UserError(f"{instances_json} has no class but {' and '.join(pseudo.values())}.")
    things = kinds.apply(things)
    raise_first(image_problems(content["images"], str(instances_json)))
    stuff = read_categories(stuff_categories) if stuff_categories else []
    _check_stuff(things, stuff, stuff_categories)
    highest = max(chain(pseudo, (c["id"] for c in (*things, *stuff))))
    background_id = highest + 1 if background else None
    categories = things + [{k: v for k, v in c.items() if k != "label"} for c in stuff]
    if background:
        categories.append({"id": background_id, "name": background, "isthing": 0})
    raise_first(category_problems(categories, f"{instances_json} and the stuff"))
    pictures, more = _pictures(content, {*pseudo, *(c["id"] for c in things)}, instances_json)
    pictures, names = found_pictures(pictures, image_root, instances_json)
    return Source(
        image_root,
        pictures,
        categories,
        partial(
            _annotate,
            instances_json=instances_json,
            stuff_root=stuff_root,
            stuff=stuff,
            background=background_id,
            stuff_ids=frozenset(c["id"] for c in things if not c["isthing"]),
            ignore_crowd=ignore_crowd,
            pseudo={i: background_id if n == BACKGROUND else None for i, n in pseudo.items()},
        ),
        (*notes, *more_notes, *names),
        (*bad, *none, *more),
    )


def _without_nothing(content: dict, path: Path) -> tuple[dict, tuple[BadAnnotation, ...]]:
    """The content without annotations that are null, or no objects, and these."""
    listed = content.get("annotations")
    if not isinstance(listed, list):
        return content, ()
    none = tuple(
        BadAnnotation(
            "without anything",
            f"{path}, number {number} of `annotations` is {json.dumps(item)[:30]}, no object, "
            "{...}: correct or remove it.",
        )
        for number, item in enumerate(listed, 1)
        if not isinstance(item, dict)
    )
    return {**content, "annotations": [a for a in listed if isinstance(a, dict)]}, none


def _check_masks(annotations: list[dict], path: Path) -> None:
    """A `UserError` where there are boxes alone, as rectangles of Label Studio and CVAT are."""
    if annotations and not any(a.get("segmentation") for a in annotations):
        raise UserError(
            f"{path}: not one of its {len(annotations)} annotations has a segmentation, and a box "
            "says nothing of its pixels: export polygons or masks, or let a model draw them with "
            "tools/prepare_dataset.py boxes."
        )


def _check_stuff(things: list[dict], stuff: list[dict], path: Path | None) -> None:
    ids = {c["id"] for c in things}
    for category in stuff:
        if category["isthing"]:
            raise UserError(f"{path}: {category['name']} is a thing: list the stuff alone.")
        if category["id"] in ids:
            raise UserError(
                f"{path}: {category['name']} has the id {category['id']}, which is of a thing of "
                "the instances JSON: give it another id, and its value in the maps as `label`."
            )


def _pictures(
    content: dict, category_ids: set[int], path: Path
) -> tuple[list[Picture], tuple[BadAnnotation, ...]]:
    """The images with their annotations, and those annotations that are none."""
    images = {image["id"]: image for image in content["images"]}
    annotations, bad = defaultdict(list), []
    for annotation in content["annotations"]:
        problem = _problem(annotation, images, category_ids)
        if problem:
            kind, sentence = problem
            where = f"{path}, annotation {annotation.get('id')}"
            bad.append(BadAnnotation(kind, f"{where} {sentence}"))
        else:
            annotations[annotation["image_id"]].append(annotation)
    pictures = [
        Picture(image["file_name"], id_, annotations.get(id_, []), listed_size_of(image))
        for id_, image in images.items()
    ]
    return pictures, tuple(bad)


def _problem(annotation: dict, images: dict, category_ids: set[int]) -> tuple[str, str] | None:
    """What keeps an annotation from being converted: its kind, and the end of a sentence."""
    missing = sorted({"image_id", "category_id", "segmentation"} - annotation.keys())
    if missing:
        return f"without {missing[0]}", f"has no {missing[0]}: add it, or leave it out."
    category, image_id = annotation["category_id"], annotation["image_id"]
    if not isinstance(category, int) or category not in category_ids:
        return "of no category", (
            f"has category {category!r}, which is not in `categories`: "
            "add the category or change the annotation."
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        return "with a wrong iscrowd", f"has iscrowd {annotation['iscrowd']!r}: use 0 or 1."
    if not isinstance(image_id, (int, str)) or image_id not in images:
        return "of no image", f"is of image {image_id!r}, which is not in `images`: add it."
    return None


def _annotate(
    picture: Picture,
    height: int,
    width: int,
    *,
    instances_json: Path,
    stuff_root: Path | None,
    stuff: list[dict],
    background: int | None,
    stuff_ids: frozenset[int],
    ignore_crowd: bool,
    pseudo: dict[int, int | None],
) -> Annotation:
    where = f"image {picture.image_id}, {picture.file_name}"
    canvas = Canvas(height, width, f"{instances_json}, {where}")
    if stuff_root is not None:
        path = SAME_NAME.path(stuff_root, picture.file_name, where)
        labels = read_label_map(path, height, width, where)
        add_stuff(canvas, labels, stuff)
    annotations, runs = [], []
    for annotation in picture.content:
        try:
            runs.append(run_lengths(annotation, height, width, instances_json))
            annotations.append(annotation)
            if reaches_beyond(annotation["segmentation"], height, width):
                canvas.remarks[_BEYOND] += 1
            if is_elsewhere(annotation.get("bbox"), runs[-1]):
                canvas.remarks[_ELSEWHERE] += 1
        except UserError as error:
            canvas.bad.append(BadAnnotation("without a mask", str(error)))
    # Stuff below, one segment a class; of overlapping stuff, the smaller class lies above.
    of_stuff = defaultdict(list)
    for annotation, run in zip(annotations, runs):
        if annotation["category_id"] in stuff_ids:
            of_stuff[annotation["category_id"]].append(run)
    unions = {id_: coco_mask.merge(parts) for id_, parts in of_stuff.items()}
    for id_ in sorted(unions, key=lambda id_: -int(coco_mask.area(unions[id_]))):
        canvas.add(coco_mask.decode(unions[id_]).astype(bool), Segment(id_))
    objects = [n for n, a in enumerate(annotations) if a["category_id"] not in stuff_ids]
    areas = [int(coco_mask.area(runs[n])) for n in objects]
    segments = [_object(annotations[n], ignore_crowd, pseudo) for n in objects]
    canvas.add_objects(
        zip(areas, segments), lambda n: coco_mask.decode(runs[objects[n]]).astype(bool)
    )
    if not picture.content:
        what = "VOID" if background is None else "background"
        canvas.remarks[f"images have no annotation: {what} where nothing else is given"] += 1
    if background is not None:
        canvas.fill(Segment(background))
    return canvas.finish()


def _object(annotation: dict, ignore_crowd: bool, pseudo: dict[int, int | None]) -> Segment:
    category = annotation["category_id"]
    if category in pseudo:
        return Segment(pseudo[category])
    return Segment(category, 0 if ignore_crowd else int(annotation.get("iscrowd", 0)))


def run_lengths(annotation: dict, height: int, width: int, path: Path) -> dict:
    """The mask of one annotation in pycocotools' compressed form.

    `segmentation` is as `polygons_of` takes it, or run lengths as a list or as COCO's text.
    """
    segmentation = annotation["segmentation"]
    where = f"{path}, annotation {annotation.get('id')} (image {annotation['image_id']})"
    try:
        if isinstance(segmentation, dict):
            return _checked_runs(segmentation, height, width)
        polygons = polygons_of(segmentation)
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: {error}, so it has no mask: correct or remove it.") from error


def _checked_runs(segmentation: dict, height: int, width: int) -> dict:
    if not {"size", "counts"} <= segmentation.keys():
        raise ValueError("its run lengths lack their size or their counts")
    size = [int(x) for x in segmentation["size"]]
    if size != [height, width]:
        raise ValueError(f"its mask is {size[1]} x {size[0]}, the image {width} x {height} pixels")
    counts = segmentation["counts"]
    runs = np.array(_runs_of_text(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if (runs < 0).any():
        raise ValueError(f"one of its runs is {runs.min()} pixels long")
    # pycocotools leaves what runs do not cover as it finds it in memory.
    if runs.sum() != height * width:
        raise ValueError(f"its runs cover {runs.sum()} of {height * width} pixels")
    return coco_mask.frPyObjects({"size": size, "counts": runs.tolist()}, height, width)


def _runs_of_text(text: str) -> list[int]:
    """The run lengths in COCO's text.

    A character holds six bits: five of a number, the lowest first, and whether more of it follow.
    From the fourth on, a number is the difference to the run before the last.
    """
    runs: list[int] = []
    number, bits = 0, 0
    for character in text:
        six = ord(character) - 48
        if not 0 <= six < 64:
            raise ValueError(f"{character!r} is not of COCO's run lengths")
        number |= (six & 31) << bits
        bits += 5
        if six & 32:
            continue
        if six & 16:  # the sign
            number -= 1 << bits
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, bits = 0, 0
    return runs
