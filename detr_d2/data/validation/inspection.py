"""One image and its PNG, read in full, beside what the JSON says of them."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ...errors import UserError
from ..checks import check_listed_size
from ..depth import ALL_GREY_LEVELS, GreyLevels
from ..files import join_inside
from ..id_maps import meant_form, read_listed
from ..images import check_same_size, read_image, read_image_and_range
from ..panoptic_map import (
    OtherForm,
    measure_segments,
    only_in_json,
    only_in_png,
    runs_of,
)
from ..parallel import parallel_map
from ..problems import IMAGE_ID, Problem, is_list_of_dicts

_OTHER_FORM = "Ids of another form"


@dataclass(frozen=True)
class Inspection:
    """
    Attributes:
        image: of the JSON, with the size that the file has.
        annotation: of the JSON, with areas, boxes and segments as in the PNG.
        digest: of the image's pixels; None where it cannot be read.
        areas: pixels of each segment of `annotation`; those that have none come last there, and
            are left out here.
        void: pixels of no segment; None where nothing can be said of the PNG's segments.
        values: the least and the greatest of an image of 16 bits, None of others.
    """

    image: dict
    annotation: dict
    digest: str | None = None
    areas: tuple[int, ...] = ()
    void: int | None = None
    values: tuple[int, int] | None = None
    problems: list[Problem] = field(default_factory=list)


def inspect_images(
    content: dict,
    image_root: str,
    panoptic_root: str,
    workers: int,
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> list[Inspection]:
    """Read all images and PNGs of a panoptic JSON, in the order of its complete annotations.

    Args:
        levels: see `read_image`.
    """
    images = {
        image["id"]: image for image in content["images"] if isinstance(image.get("id"), IMAGE_ID)
    }
    stuff = {c["id"] for c in content["categories"] if not c.get("isthing", True)}
    pairs = [
        (images[annotation["image_id"]], annotation)
        for annotation in content["annotations"]
        if _is_complete(annotation, images)
    ]
    function = partial(
        _inspect,
        image_root=image_root,
        panoptic_root=panoptic_root,
        stuff=frozenset(stuff),
        levels=levels,
    )
    return parallel_map(function, pairs, workers, "Reading")


def digest_images(
    content: dict, image_root: str, workers: int, levels: GreyLevels = ALL_GREY_LEVELS
) -> dict[str, str | None]:
    """The digest of each image of a JSON by file name; None where it cannot be read."""
    names = [image["file_name"] for image in content["images"]]
    function = partial(_digest_file, image_root=image_root, levels=levels)
    digests = parallel_map(function, names, workers, "Reading")
    return dict(zip(names, digests))


def _is_complete(annotation: dict, images: dict) -> bool:
    """Whether an annotation can be compared with its files.

    Args:
        images: those of the JSON, by id.
    """
    image_id = annotation.get("image_id")
    image = images.get(image_id) if isinstance(image_id, IMAGE_ID) else None
    return (
        image is not None
        and isinstance(image.get("file_name"), str)
        and isinstance(annotation.get("file_name"), str)
        and is_list_of_dicts(annotation, "segments_info")
        and all(
            isinstance(segment.get(key), int)
            for segment in annotation["segments_info"]
            for key in ("id", "category_id")
        )
    )


def _inspect(
    pair: tuple[dict, dict],
    *,
    image_root: str,
    panoptic_root: str,
    stuff: frozenset[int],
    levels: GreyLevels,
) -> Inspection:
    image, annotation = pair
    where = f"(image {image['id']})"
    problems = list(_iscrowd_problems(annotation, where))
    problems += _class_problems(annotation, stuff, where)
    segments = [{**s, "iscrowd": s.get("iscrowd", 0)} for s in annotation["segments_info"]]
    annotation = {**annotation, "segments_info": segments}
    read = partial(read_image_and_range, levels=levels)
    pixels, values = _try_to_read(read, image_root, image["file_name"], where, problems) or (
        None,
        None,
    )
    read_ids = partial(read_listed, listed=[s["id"] for s in segments])
    ids = _try_to_read(read_ids, panoptic_root, annotation["file_name"], where, problems)

    digest, void = None, None
    areas: tuple[int, ...] = ()
    png = f"{annotation['file_name']} {where}"
    if pixels is not None:
        digest = _digest(pixels)
        file = join_inside(image_root, image["file_name"], where)
        problems += _size_problems(image, file, png, pixels.shape[:2], ids)
        image = {**image, "height": pixels.shape[0], "width": pixels.shape[1]}
    if ids is not None and (pixels is None or ids.shape == pixels.shape[:2]):
        measured, void = _measure(ids)
        meant = _meant_form(panoptic_root, annotation, segments, measured)
        if meant is not None:
            problems.append(Problem(_OTHER_FORM, meant))
            void = None
        else:
            problems += _segment_problems(segments, measured, png)
            right, areas = _as_measured(segments, measured)
            annotation = {**annotation, "segments_info": right}
    return Inspection(image, annotation, digest, areas, void, values, problems)


def _meant_form(root: str, annotation: dict, segments: list[dict], measured) -> str | None:
    """What the ids of a PNG are, where they are listed if it is read in another way than COCO's."""
    if not _unlisted(segments, measured):
        return None
    path = join_inside(root, annotation["file_name"], "its PNG")
    return meant_form(path, [s["id"] for s in segments])


def _size_problems(
    image: dict, file: str, png: str, size: tuple[int, ...], ids: np.ndarray | None
) -> Iterator[Problem]:
    """Where JSON and PNG do not have the (height, width) of the image in `file`."""
    of_png = size if ids is None else ids.shape
    listed = (image.get("height"), image.get("width"))
    try:
        check_same_size(png, of_png, image["file_name"], size, file)
    except UserError as error:
        yield Problem("Sizes", str(error))
        if listed == of_png:  # it is one fault, which the JSON alone cannot put right
            return
    try:
        check_listed_size({"height": None, "width": None, **image, "image_id": image["id"]}, size)
    except UserError as error:
        yield Problem("Sizes", str(error), can_be_fixed=True)


def _try_to_read(read, root: str, name: str, where: str, problems: list) -> Any:
    """What `read` makes of a file; None, and a problem, where it cannot be read."""
    kind = "Missing files"
    try:
        path = join_inside(root, name, where)
        if os.path.isfile(path):
            kind = "Files that are no images"
        return read(path, where=where)
    except OtherForm as error:
        problems.append(Problem(_OTHER_FORM, str(error)))
        return None
    except UserError as error:
        problems.append(Problem(kind, str(error)))
        return None


def _digest_file(name: str, *, image_root: str, levels: GreyLevels) -> str | None:
    pixels = _try_to_read(partial(read_image, levels=levels), image_root, name, "", [])
    return None if pixels is None else _digest(pixels)


def _digest(pixels: np.ndarray) -> str:
    """Equal for equal pixels, whatever the file format."""
    shape = np.array(pixels.shape, dtype=np.int64).tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _measure(ids: np.ndarray) -> tuple[dict[int, dict], int]:
    """`area` and `bbox` of each id in an (H, W) map, and the pixels of VOID."""
    values, lengths = runs_of(ids)
    present, numbers = np.unique(values, return_inverse=True)
    segment_map = (numbers + 1).repeat(lengths).reshape(ids.shape)
    measured: dict[int, dict] = {
        int(id_): {"area": area, "bbox": box}
        for id_, (area, box) in zip(present, measure_segments(segment_map, len(present)))
    }
    return measured, measured.pop(0, {"area": 0})["area"]


def _unlisted(segments: list[dict], measured: dict[int, dict]) -> list[int]:
    """Ids of the PNG that the JSON does not list."""
    return sorted(measured.keys() - {s["id"] for s in segments})


def _as_measured(
    segments: list[dict], measured: dict[int, dict]
) -> tuple[list[dict], tuple[int, ...]]:
    """The segments as the PNG has them, and their areas.

    Those without pixels are left out; but where the PNG has ids that are not listed, it may be the
    ids that are wrong, and they are kept.
    """
    seen = [{**s, **measured[s["id"]]} for s in segments if s["id"] in measured]
    lost = [s for s in segments if s["id"] not in measured]
    kept = lost if _unlisted(segments, measured) else []
    return [*seen, *kept], tuple(s["area"] for s in seen)


def _segment_problems(
    segments: list[dict], measured: dict[int, dict], where: str
) -> Iterator[Problem]:
    kind = "PNG and JSON disagree"
    unlisted = _unlisted(segments, measured)
    for id_ in unlisted:
        yield Problem(kind, only_in_png(where, id_))
    for segment in segments:
        if segment["id"] not in measured:
            sentence = only_in_json(where, segment["id"])
            yield Problem(kind, sentence, can_be_fixed=not unlisted)
            continue
        for key, right in measured[segment["id"]].items():
            if segment.get(key) != right:
                yield Problem(
                    "Areas and boxes",
                    f"{where}: segment {segment['id']} has {key} {segment.get(key)} in the JSON, "
                    f"but {right} in the PNG.",
                    can_be_fixed=True,
                )
    if not measured:
        yield Problem("Images without segments", f"{where} is all VOID.", wrong=False)


def _iscrowd_problems(annotation: dict, where: str) -> Iterator[Problem]:
    for segment in annotation["segments_info"]:
        name = f"{annotation['file_name']} {where}: segment {segment['id']}"
        if "iscrowd" not in segment:
            yield Problem("iscrowd", f"{name} has no iscrowd: 0 is usual.", can_be_fixed=True)
        elif segment["iscrowd"] not in (0, 1):
            yield Problem("iscrowd", f"{name} has iscrowd {segment['iscrowd']}: use 0 or 1.")


def _class_problems(annotation: dict, stuff: frozenset[int], where: str) -> Iterator[Problem]:
    counts = Counter(s["category_id"] for s in annotation["segments_info"])
    for category, count in counts.items():
        if category in stuff and count > 1:
            yield Problem(
                "Stuff in several segments",
                f"{annotation['file_name']} {where} has {count} segments of the stuff {category}, "
                "of which a prediction can match one alone: tools/prepare_dataset.py panoptic "
                "unites them.",
                wrong=False,
            )
