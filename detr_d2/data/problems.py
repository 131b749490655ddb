"""What can be wrong in a COCO panoptic JSON, seen without opening an image."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from ..errors import UserError
from .files import join_inside

FORMAT = "Format"  # kinds of problems that leave it unclear what belongs together
REPEATED = "Repeated ids and files"
OUTSIDE = "Names outside of their folder"

_LISTED = 10  # problems that are named one by one
_MOST = 2**24  # ids that three bytes of a PNG can hold
IMAGE_ID = (int, str)  # types
_TYPES: dict[str, Any] = {"id": IMAGE_ID, "image_id": IMAGE_ID, "file_name": str}


@dataclass(frozen=True)
class Problem:
    """
    Attributes:
        kind: what it is one of, such as "Missing files".
        sentence: what is wrong, where, and what to do.
        wrong: training or evaluation would crash or be false; otherwise it is worth knowing.
        can_be_fixed: what is right follows from the image and its PNG.
    """

    kind: str
    sentence: str
    wrong: bool = True
    can_be_fixed: bool = False


def raise_first(problems: Iterator[Problem]) -> None:
    """A `UserError` of the first thing that is wrong, if there is one."""
    for problem in problems:
        if problem.wrong:
            raise UserError(problem.sentence)


def raise_listed(problems: Iterator[Problem]) -> None:
    """A `UserError` of all that is wrong, if there is anything; see `listing`."""
    wrong = [(problem.kind, problem.sentence) for problem in problems if problem.wrong]
    if len(wrong) == 1:
        raise UserError(wrong[0][1])
    if wrong:
        raise UserError(f"{listing(wrong)} in all.")


def listing(wrong: Sequence[tuple[str, str]]) -> str:
    """The first sentences, one a line, and then how many there are of each kind.

    Args:
        wrong: kind and sentence of each.
    """
    lines = [sentence for _, sentence in wrong[:_LISTED]]
    if len(wrong) > _LISTED:
        lines.append(f"and {len(wrong) - _LISTED} more.")
    kinds = Counter(kind for kind, _ in wrong).most_common()
    return "\n".join([*lines, ", ".join(f"{count} {kind}" for kind, count in kinds)])


def category_problems(categories: list[dict] | None, path: str) -> Iterator[Problem]:
    """What is wrong with the categories of the JSON at `path`."""
    kind = "Categories"
    if not categories or not is_list_of_dicts({"categories": categories}, "categories"):
        yield Problem(kind, f"{path} has no categories: list them under `categories`.")
        return
    complete = []
    for category in categories:
        missing = _missing(category, "id", "name", "isthing")
        if missing:
            kinds = ", or name it in --stuff or --things of a conversion"
            remedy = kinds if missing == "isthing" else ""
            yield Problem(
                kind, f"{path}: the category {category} has no {missing}: add it{remedy}."
            )
        elif not isinstance(category["id"], int):
            yield Problem(kind, f"{path}: the category id {category['id']!r} is no whole number.")
        elif not isinstance(category["name"], str) or not category["name"].strip():
            yield Problem(
                kind,
                f"{path}: the category name {category['name']!r} is no text: write one in quotes.",
            )
        elif category["isthing"] not in (0, 1):
            yield Problem(
                kind, f"{path}: {category['name']} has isthing {category['isthing']!r}: use 0 or 1."
            )
        else:
            complete.append(category)
    for id_ in _repeated(c["id"] for c in complete):
        yield Problem(kind, f"{path}: two categories have the id {id_}: change one.")
    for name in _repeated(c["name"] for c in complete):
        yield Problem(kind, f"{path}: two categories have the name {name}: change one.")


def list_problems(
    content: dict, path: str, keys: tuple[str, ...] = ("images", "annotations")
) -> Iterator[Problem]:
    """Whether the JSON at `path` is of COCO's kind at all: has a list under each of `keys`."""
    for key in keys:
        if not is_list_of_dicts(content, key):
            remedy = remedy_for_list(content, key, "panoptic")
            yield Problem(FORMAT, f"{path} has no list `{key}`{remedy}")
        elif key == "annotations" and _are_instances(content[key]):
            yield Problem(
                FORMAT,
                f"{path} is a COCO instances JSON, and no panoptic one: convert it with "
                "tools/prepare_dataset.py instances.",
            )


def image_problems(images: list[dict], path: str) -> Iterator[Problem]:
    """What is wrong with the ids and file names of the images of a COCO JSON of any kind."""
    incomplete = list(_incomplete(images, "image", ("id", "file_name"), path))
    yield from incomplete or _image_repetitions(images, path)


def annotation_problems(content: dict, categories: set, path: str) -> Iterator[Problem]:
    """What is wrong with the annotations of a JSON, be they ground truth or predictions.

    Args:
        categories: ids that segments may have.
    """
    lists = list(list_problems(content, path, ("annotations",)))
    if lists:
        yield from lists
        return
    incomplete = list(_incomplete_annotations(content["annotations"], path))
    yield from incomplete
    if not incomplete:
        for annotation in content["annotations"]:
            yield from _segments_of(annotation, categories, path)


def json_problems(content: dict, path: str) -> Iterator[Problem]:
    """What is wrong with the images, annotations and segments of the JSON at `path`."""
    lists = list(list_problems(content, path))
    if lists:
        yield from lists
        return
    incomplete = list(
        chain(
            _incomplete(content["images"], "image", ("id", "file_name"), path),
            _incomplete_annotations(content["annotations"], path),
        )
    )
    yield from incomplete
    if not incomplete:
        yield from _image_repetitions(content["images"], path)
        yield from _annotation_repetitions(content, path)
        yield from _annotation_problems(content, path)


def _incomplete(items: list[dict], what: str, keys: tuple, path: str) -> Iterator[Problem]:
    for number, item in enumerate(items):
        name = item.get("id", item.get("image_id", f"number {number}"))
        missing = _missing(item, *keys)
        if missing:
            yield Problem(FORMAT, f"{path}: {what} {name} has no {missing}: add it.")
            continue
        for key in keys:
            if not isinstance(item[key], _TYPES.get(key, object)) or (
                key == "file_name" and not PurePosixPath(item[key]).name
            ):
                yield Problem(
                    FORMAT, f"{path}: {what} {name} has the {key} {item[key]!r}: correct it."
                )


def _incomplete_annotations(annotations: list[dict], path: str) -> Iterator[Problem]:
    return _incomplete(annotations, "annotation", ("image_id", "file_name", "segments_info"), path)


def _image_repetitions(images: list[dict], path: str) -> Iterator[Problem]:
    kind = REPEATED
    for id_ in _repeated(image["id"] for image in images):
        yield Problem(kind, f"{path}: two images have the id {id_}: give each its own.")
    for name in _repeated(image["file_name"] for image in images):
        yield Problem(kind, f"{path}: two images are the file {name}: leave one out.")


def _annotation_repetitions(content: dict, path: str) -> Iterator[Problem]:
    images, annotations = content["images"], content["annotations"]
    kind = REPEATED
    if not annotations:
        yield Problem(FORMAT, f"{path} annotates no image: give it an annotation at least.")
    for id_ in _repeated(annotation["image_id"] for annotation in annotations):
        yield Problem(kind, f"{path}: image {id_} has two annotations: leave one out.")
    for name in _repeated(annotation["file_name"] for annotation in annotations):
        yield Problem(kind, f"{path}: two annotations have the PNG {name}: give each its own.")
    without = {image["id"] for image in images} - {a["image_id"] for a in annotations}
    for id_ in sorted(without, key=str):
        yield Problem(
            "Images without annotation",
            f"{path}: image {id_} has no annotation, so it is not used.",
            wrong=False,
        )


def _annotation_problems(content: dict, path: str) -> Iterator[Problem]:
    images = {image["id"]: image for image in content["images"]}
    listed = content.get("categories") or ()
    categories = {c["id"] for c in listed if isinstance(c, dict) and isinstance(c.get("id"), int)}
    for annotation in content["annotations"]:
        image_id = annotation["image_id"]
        where = f"{path}, image {image_id}"
        if image_id not in images:
            yield Problem(
                FORMAT, f"{where} has an annotation but is not in `images`: add it there."
            )
            continue
        for name in (images[image_id]["file_name"], annotation["file_name"]):
            try:
                join_inside("its folder", name, where)
            except UserError as error:
                yield Problem(OUTSIDE, str(error))
        yield from _segments_of(annotation, categories, path)


def _segments_of(annotation: dict, categories: set, path: str) -> Iterator[Problem]:
    where = f"{path}, image {annotation['image_id']}"
    if is_list_of_dicts(annotation, "segments_info"):
        yield from _segment_problems(annotation["segments_info"], categories, where)
    else:
        yield Problem(FORMAT, f"{where}: `segments_info` is no list of segments: correct it.")


def _segment_problems(segments: list[dict], categories: set, where: str) -> Iterator[Problem]:
    ids = []
    for segment in segments:
        missing = _missing(segment, "id", "category_id")
        if missing:
            yield Problem(FORMAT, f"{where}: the segment {segment} has no {missing}: add it.")
            continue
        id_, category = segment["id"], segment["category_id"]
        if not isinstance(category, int) or category not in categories:
            yield Problem(
                "Unknown categories",
                f"{where}: segment {id_} has category {category!r}, which is not in "
                "`categories`: add the category or change the segment.",
            )
        if not isinstance(id_, int) or not 0 < id_ < _MOST:
            yield Problem(
                "Segment ids",
                f"{where}: a segment has the id {id_!r}: use whole numbers from 1 (0 is VOID) "
                f"to {_MOST - 1}.",
            )
        else:
            ids.append(id_)
    for id_ in _repeated(ids):
        yield Problem("Segment ids", f"{where}: two segments have the id {id_}: give each its own.")


def is_list_of_dicts(content: dict, key: str) -> bool:
    """Whether `content` has a list of objects under `key`."""
    items = content.get(key) if isinstance(content, dict) else None
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def remedy_for_list(content: dict, key: str, wanted: str) -> str:
    """What follows "has no list KEY" where `is_list_of_dicts` is false.

    Args:
        wanted: kind of COCO JSON.
    """
    items = content.get(key) if isinstance(content, dict) else None
    for number, item in enumerate(items if isinstance(items, list) else (), 1):
        if not isinstance(item, dict):
            shown = json.dumps(item)[:30]
            return f" of objects, {{...}}: number {number} is {shown}. Correct or remove it."
    return f": give a COCO {wanted} JSON."


def _are_instances(annotations: list[dict]) -> bool:
    """Whether they are objects with masks or boxes, and none is the segments of an image."""
    are_objects = all("category_id" in a and "segments_info" not in a for a in annotations)
    return are_objects and any("segmentation" in a or "bbox" in a for a in annotations)


def _missing(item: dict, *keys: str) -> str | None:
    return next((key for key in keys if key not in item), None)


def _repeated(items) -> list:
    return [item for item, count in Counter(items).items() if count > 1]
