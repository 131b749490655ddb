"""Polygons as annotation tools write them."""

import math
from collections.abc import Iterable
from pathlib import Path

from pycocotools import mask as coco_mask

from ...errors import UserError

_FARTHEST = 1e5  # pixels from the origin: a polygon that reaches farther is a mistake
_MARGIN = 2  # pixels by which tools draw beyond the border


def polygons_of(segmentation) -> list[list[float]]:
    """x, y, x, y, ... in pixels of the polygons of a COCO annotation, whose union its mask is.

    It is a list of polygons, or one polygon alone, as VIA 3 writes it; a polygon may be a list of
    points, [x, y]. A `ValueError` or `TypeError` says what is wrong.
    """
    if not isinstance(segmentation, list):
        but = " but text" if isinstance(segmentation, str) else ""
        raise ValueError(f"its segmentation is no list of polygons, and no run lengths{but}")
    if not segmentation:
        raise ValueError("there is no polygon")
    if _is_polygon(segmentation):
        segmentation = [segmentation]
    if not all(isinstance(polygon, list) for polygon in segmentation):
        raise ValueError("its segmentation is no list of polygons, and no run lengths")
    return [checked_polygon(_flat(polygon)) for polygon in segmentation]


def checked_polygon(numbers: Iterable[float | str]) -> list[float]:
    """x, y, x, y, ... of its points in pixels; a `ValueError` says what is wrong with them."""
    polygon = [float(x) for x in numbers]
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers, not x and y of three points")
    if not all(map(math.isfinite, polygon)):
        raise ValueError("a polygon has a coordinate that is no number")
    if not all(abs(x) < _FARTHEST for x in polygon):
        raise ValueError("a polygon lies outside of every image")
    return polygon


def reaches_beyond(segmentation, height: int, width: int) -> bool:
    """Whether polygons that `polygons_of` takes lie beyond the image in part."""
    if isinstance(segmentation, dict):
        return False
    return any(
        not (-_MARGIN <= x <= width + _MARGIN and -_MARGIN <= y <= height + _MARGIN)
        for polygon in polygons_of(segmentation)
        for x, y in zip(polygon[::2], polygon[1::2])
    )


def is_elsewhere(box, runs: dict) -> bool:
    """Whether most of a mask lies beyond the box that its annotation lists.

    Args:
        box: x, y, width and height in pixels; anything else is not compared.
        runs: of the mask, as pycocotools has them.
    """
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(isinstance(x, (int, float)) and abs(x) < _FARTHEST for x in box):  # nor NaN
        return False
    x, y, width, height = box
    if min(width, height) <= 0:
        return False
    # A margin, so that what is one pixel thin is not lost to rounding.
    x0, y0, x1, y1 = x - 1, y - 1, x + width + 1, y + height + 1
    corners = [x0, y0, x1, y0, x1, y1, x0, y1]
    inside = coco_mask.merge(
        [runs, *coco_mask.frPyObjects([corners], *runs["size"])], intersect=True
    )
    return int(coco_mask.area(inside)) < int(coco_mask.area(runs)) / 2


def check_units(annotations: list[dict], path: Path) -> None:
    """A `UserError` where all polygons lie within one pixel: they are shares of the image."""
    found = False
    for annotation in annotations:
        try:
            polygons = polygons_of(annotation.get("segmentation"))
        except (ValueError, TypeError):
            continue  # it is told of where it is converted
        numbers = [x for polygon in polygons for x in polygon]
        if any(not 0 <= x <= 1 for x in numbers):
            return
        found = found or any(x not in (0, 1) for x in numbers)
    if found:
        raise UserError(
            f"{path}: all polygons lie between 0 and 1, as shares of the width and the height: "
            "multiply them by the sizes of the images."
        )


def _is_polygon(segmentation: list) -> bool:
    """Whether it is one polygon and not a list of them."""
    numbers = not any(isinstance(x, (list, dict)) for x in segmentation)
    return (numbers and len(segmentation) >= 6) or _are_points(segmentation)


def _are_points(items: list) -> bool:
    return len(items) >= 3 and all(
        isinstance(item, list) and len(item) == 2 and not isinstance(item[0], list)
        for item in items
    )


def _flat(polygon: list) -> list:
    return [x for point in polygon for x in point] if _are_points(polygon) else polygon
