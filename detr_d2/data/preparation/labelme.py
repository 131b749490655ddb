"""labelme's own JSON files, one an image, as they are."""

import base64
import binascii
import io
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ...errors import UserError
from ..files import files_below, read_json
from ..image_names import ImageNames
from ..images import find_image_files, read_image_size
from ..problems import is_list_of_dicts, listing
from .annotation import BadAnnotation
from .instances import from_content
from .kinds import AS_ANNOTATED, Kinds
from .polygons import checked_polygon
from .source import Source, listed_size_of

# The last two are rectangles of any angle, of X-AnyLabeling and of labelme.
_POLYGONS = ("polygon", "rotation", "oriented_rectangle")


def from_labelme(
    image_root: Path,
    annotation_root: Path,
    background: str = "",
    kinds: Kinds = AS_ANNOTATED,
) -> Source:
    """Convert polygons, rectangles, circles and masks; those of one label and group are one object.

    The classes are numbered from 1 by name. Overlaps are resolved as of instances.

    Args:
        annotation_root: folder of the JSON files, with its sub-folders.
        background: name of a stuff class for all other pixels; empty leaves them VOID.
        kinds: which classes are stuff.
    """
    files = sorted(file for file in files_below(annotation_root) if file.suffix == ".json")
    if not files:
        raise UserError(f"{annotation_root} has no JSON files: give the folder of labelme's.")
    names_of_images = ImageNames(image_root)
    images: list[dict] = []
    objects: list[dict] = []
    bad: list[BadAnnotation] = []
    for file in files:
        content = read_json(file)
        if not _is_labelmes(content):
            sentence = f"{file} has no imagePath and shapes: give labelme's JSON files alone."
            bad.append(BadAnnotation("JSON files of another kind", sentence))
            continue
        number = len(images) + 1
        image = {"id": number, **_image(content, file, annotation_root, names_of_images)}
        images.append(image)
        of_image, bad_ones = _objects(content, file, (image["height"], image["width"]))
        objects += [{"image_id": number, **o} for o in of_image]
        bad += bad_ones
    if not objects:
        wrong = f" that can be converted:\n{listing(bad)}" if bad else ""
        raise UserError(f"{annotation_root}: no JSON file has a shape{wrong}.")
    names = sorted({o["label"] for o in objects})
    ids = {name: number for number, name in enumerate(names, 1)}
    content = {
        "images": images,
        "categories": [{"id": id_, "name": name} for name, id_ in ids.items()],
        "annotations": [
            {"id": n, "category_id": ids[o.pop("label")], **o} for n, o in enumerate(objects, 1)
        ],
    }
    source = from_content(
        content, annotation_root, image_root, background=background, kinds=kinds, bad=tuple(bad)
    )
    used = {picture.file_name for picture in source.pictures}
    others = [name for name in find_image_files(image_root) if name not in used]
    if not others:
        return source
    without = f"{len(others)} images have no JSON file, such as {others[0]}: left out."
    return replace(source, notes=(*source.notes, without))


def _is_labelmes(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("imagePath"), str)
        and is_list_of_dicts(content, "shapes")
    )


def _image(content: dict, file: Path, annotation_root: Path, names: ImageNames) -> dict:
    folder = file.parent.relative_to(annotation_root)
    name = str(PurePosixPath(folder.as_posix(), content["imagePath"].replace("\\", "/")))
    size = listed_size_of(
        {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
    )
    height, width = size or read_image_size(names.root / names.find(name), f"({file})")
    return {"file_name": name, "height": height, "width": width}


def _objects(
    content: dict, file: Path, size: tuple[int, int]
) -> tuple[list[dict], list[BadAnnotation]]:
    """Labels and masks of the objects of one image."""
    parts, bad = defaultdict(list), []
    for number, shape in enumerate(content["shapes"]):
        label, group = str(shape.get("label") or "").strip(), shape.get("group_id")
        try:
            if not label:
                raise ValueError("it has no label")
            part = _polygon_or_runs(shape, size)
        except (ValueError, TypeError) as error:
            sentence = f"{file}, shape {number} ({label}): {error}: correct or remove it."
            bad.append(BadAnnotation("without a mask", sentence))
        else:
            # Without a group, every shape is an object.
            parts[label, number if group is None else f"group {group}"].append(part)
    objects = [
        {"label": label, "segmentation": _united(of_object, size)}
        for (label, _), of_object in parts.items()
    ]
    return objects, bad


def _united(parts: list[list[float] | dict], size: tuple[int, int]) -> list[list[float]] | dict:
    """Polygons and run lengths of an object, as COCO has their union."""
    polygons = [part for part in parts if isinstance(part, list)]
    runs = [part for part in parts if isinstance(part, dict)]
    if not runs:
        return polygons
    drawn = coco_mask.frPyObjects(polygons, *size) if polygons else []
    merged = coco_mask.merge([*runs, *drawn])
    return {"size": merged["size"], "counts": merged["counts"].decode()}


def _polygon_or_runs(shape: dict, size: tuple[int, int]) -> list[float] | dict:
    """A shape as a polygon, or as run lengths in pycocotools' form."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(points, list) or not points:
        raise ValueError("it has no points")
    if kind in _POLYGONS or (kind == "rectangle" and len(points) == 4):
        polygon = [number for x, y in points for number in (x, y)]
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = points
        polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
    elif kind == "circle":
        if len(points) != 2:
            raise ValueError("a circle is two points, its centre and one of its edge")
        polygon = _circle(*points)
    elif kind == "mask":
        return coco_mask.encode(np.asfortranarray(_pasted(str(shape.get("mask")), points[0], size)))
    else:
        raise ValueError(f"a {kind} has no area")
    return checked_polygon(polygon)


def _circle(centre: list[float], edge: list[float]) -> list[float]:
    """As a polygon with corners that are about one and a half pixels apart."""
    (x, y), radius = centre, math.dist(centre, edge)
    angles = np.linspace(0, 2 * np.pi, 16 + 4 * math.ceil(radius), endpoint=False)
    corners = np.stack((x + radius * np.cos(angles), y + radius * np.sin(angles)), 1)
    return corners.ravel().tolist()


def _pasted(text: str, corner: list[float], size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 of 0 and 1, from a PNG in base64 whose first pixel is at the corner."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its mask is no base64 ({error})") from error
    try:
        with Image.open(io.BytesIO(data)) as image:
            part = np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError) as error:
        raise ValueError("its mask is no PNG") from error
    x, y = (round(c) for c in corner)
    mask = np.zeros(size, dtype=np.uint8)
    if x < 0 or y < 0 or y + part.shape[0] > size[0] or x + part.shape[1] > size[1]:
        raise ValueError("its mask reaches beyond the image")
    mask[y : y + part.shape[0], x : x + part.shape[1]] = part
    return mask
