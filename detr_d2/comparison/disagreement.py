"""How far two panoptic maps of one image are apart."""

import numpy as np

from ..evaluation.panoptic_quality import shared_pixels
from .predictions import PanopticMap


def disagreement(one: PanopticMap, other: PanopticMap) -> float:
    """1 - PQ between two panoptic maps, all their segments taken together.

    Two segments match if they are of one class and their intersection over union is above one
    half, which each segment can be with one other at most. With TP pairs that match,

        PQ = (sum of their IoU) / (TP + (segments of either map that match none) / 2).

    VOID is no segment, and unlike in an evaluation no excuse either: the measure is symmetric. It
    is 0 for equal maps and for two empty ones, 1 where nothing matches.
    """
    infos = one[1], other[1]
    if not any(infos):
        return 0.0
    ids = [[info["id"] for info in of_map] for of_map in infos]
    classes = [np.array([info["category_id"] for info in of_map], dtype=int) for of_map in infos]
    shared, _ = shared_pixels((one[0], ids[0]), (other[0], ids[1]))
    areas = shared[1:].sum(1)[:, None], shared[:, 1:].sum(0)
    shared = shared[1:, 1:]
    iou = shared / (areas[0] + areas[1] - shared)
    matched = (iou > 0.5) & (classes[0][:, None] == classes[1])
    # TP + (the rest of one + the rest of the other) / 2
    return float(1 - iou[matched].sum() / ((len(ids[0]) + len(ids[1])) / 2))
