"""How far two panoptic maps of one image are apart."""

import numpy as np

from .predictions import Segments


def disagreement(one: Segments, other: Segments) -> float:
    """1 - PQ between two panoptic maps, all their segments taken together.

    Two segments match if they are of one class and their intersection over union is above one
    half, which each segment can be with one other at most. With TP pairs that match,

        PQ = (sum of their IoU) / (TP + (segments of either map that match none) / 2).

    VOID is no segment. The measure is symmetric; 0 for equal maps and for two empty ones, 1 where
    nothing matches.
    """
    (map_one, infos_one), (map_other, infos_other) = one, other
    if not infos_one and not infos_other:
        return 0.0
    class_one = {info["id"]: info["category_id"] for info in infos_one}
    class_other = {info["id"]: info["category_id"] for info in infos_other}
    area_one, area_other = _areas(map_one), _areas(map_other)
    pairs, areas = np.unique(
        np.stack([map_one.ravel(), map_other.ravel()]), axis=1, return_counts=True
    )
    matched = 0
    sum_of_ious = 0.0
    for (a, b), intersection in zip(pairs.T.tolist(), areas.tolist()):
        if a == 0 or b == 0 or class_one[a] != class_other[b]:
            continue
        iou = intersection / (area_one[a] + area_other[b] - intersection)
        if iou > 0.5:
            matched += 1
            sum_of_ious += iou
    # matched + (the rest of one + the rest of the other) / 2
    return 1 - sum_of_ious / ((len(class_one) + len(class_other)) / 2)


def _areas(ids: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))
