"""Panoptic quality (Kirillov et al., arXiv:1801.00868), counted as panopticapi counts it.

A predicted segment p and a segment g of the ground truth match where they have the same category
and IoU(p, g) > 1/2; there can be only one such pair for either of them. For each category

    PQ = (sum of the IoU of the matches) / (TP + FP / 2 + FN / 2) = SQ * RQ.

Pixels where the ground truth is VOID belong to no union, and a predicted segment that does not
match is no false positive where more than half of it is VOID or crowd of its own category.

Pixels are visited once, for the table of |p and g|; what follows is arithmetic on that table.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..data.panoptic_map import places_of
from ..errors import UserError

SIZES = ("small", "medium", "large")
_SIZE_BOUNDS = (32**2, 96**2)  # pixels, COCO's


@dataclass(frozen=True)
class Segments:
    """The segments of one map that have pixels, T of them, in the order of the annotation.

    Attributes:
        ids, categories: (T,) int64.
        areas: (T,) int64, counted pixels.
        crowd: (T,) bool, regions of many things that nobody has told apart.
    """

    ids: np.ndarray
    categories: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(T,) places in `SIZES`."""
        return np.digitize(self.areas, _SIZE_BOUNDS)


@dataclass(frozen=True)
class ImageMatch:
    """Which segments of one image were found.

    Attributes:
        truth: the G segments of the ground truth.
        found: the P predicted segments.
        iou: (G, P) float64, whatever the category.
        hits: (G, P) bool, the matches.
        missed: (G,) bool, false negatives.
        false: (P,) bool, false positives.
        remarks: where a map and its annotation do not name the same segments.
    """

    truth: Segments
    found: Segments
    iou: np.ndarray
    hits: np.ndarray
    missed: np.ndarray
    false: np.ndarray
    remarks: list[str]

    @property
    def wrong_class(self) -> np.ndarray:
        """(G, P) bool: pairs that would match, were it not for the category."""
        return (self.iou > 0.5) & self.missed[:, None] & self.false[None]

    def quality(self) -> "Quality":
        """PQ, SQ and RQ of this image alone, over all its segments whatever their category."""
        matched = self.iou[self.hits]
        return Quality.of(matched.sum(), len(matched), self.false.sum(), self.missed.sum())


class Quality(NamedTuple):
    """Each between 0 and 1, NaN where there is no segment to find and none was found."""

    pq: np.ndarray
    sq: np.ndarray
    rq: np.ndarray

    @classmethod
    def of(cls, iou, tp, fp, fn) -> "Quality":
        """
        Args:
            iou: sum of the IoU of the true positives.
            tp, fp, fn: true positives, false positives, false negatives.
        """
        iou, tp, fp, fn = (np.asarray(x, dtype=np.float64) for x in (iou, tp, fp, fn))
        segments = tp + fp / 2 + fn / 2
        with np.errstate(invalid="ignore"):
            pq, rq = iou / segments, tp / segments
        sq = np.where(segments > 0, iou / np.maximum(tp, 1), np.nan)
        return cls(pq, sq, rq)

    def mean(self) -> "Quality":
        """The mean over the classes that are not NaN."""
        there = ~np.isnan(self.pq)
        return Quality(*(x[there].mean() if there.any() else np.array(np.nan) for x in self))


@dataclass
class PanopticQuality:
    """True and false positives, false negatives and IoU of each category, summed over images.

    A size counts matches and misses by the size of the segment in the ground truth, and false
    positives by their own, so the counts of the three sizes add up to those of all segments.

    Attributes:
        category_ids: the C categories.
        tp, fp, fn: (C, 3) int64, for `SIZES`.
        iou: (C, 3) float64, summed over the true positives.
    """

    category_ids: list[int]
    tp: np.ndarray = field(init=False)
    fp: np.ndarray = field(init=False)
    fn: np.ndarray = field(init=False)
    iou: np.ndarray = field(init=False)

    def __post_init__(self):
        shape = len(self.category_ids), len(SIZES)
        self.tp, self.fp, self.fn = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        self.iou = np.zeros(shape)
        self._row = {id_: row for row, id_ in enumerate(self.category_ids)}

    def add(self, match: ImageMatch) -> None:
        """Count one image."""
        truth, found = match.truth, match.found
        hit = match.hits.any(axis=1)
        self._count(self.tp, truth, hit)
        self._count(self.fn, truth, match.missed)
        self._count(self.fp, found, match.false)
        self._count(self.iou, truth, hit, (match.iou * match.hits).sum(axis=1)[hit])

    def per_class(self, size: str | None = None) -> Quality:
        """(C,) each, of the segments of one of `SIZES`, or of all."""
        if size is None:
            return Quality.of(*(x.sum(axis=1) for x in (self.iou, self.tp, self.fp, self.fn)))
        place = SIZES.index(size)
        return Quality.of(*(x[:, place] for x in (self.iou, self.tp, self.fp, self.fn)))

    def _count(self, table: np.ndarray, segments: Segments, chosen: np.ndarray, weights=1) -> None:
        rows = [self._row[c] for c in segments.categories[chosen].tolist()]
        np.add.at(table, (rows, segments.sizes[chosen]), weights)


def match_segments(
    truth_map: np.ndarray,
    truth_infos: list[dict],
    found_map: np.ndarray,
    found_infos: list[dict],
    where: str,
) -> ImageMatch:
    """Match predicted segments with the ground truth of one image.

    A listed segment without pixels is left out, and pixels of a segment that is not listed are
    VOID; `remarks` says so. Areas are counted, never taken from the annotation.

    Args:
        truth_map, found_map: (H, W) integer segment ids, 0 = VOID.
        truth_infos: `id`, `category_id`, and `iscrowd` where it is one.
        found_infos: `id` and `category_id`, in the categories of the ground truth.
        where: names the image in errors and remarks.
    """
    if truth_map.shape != found_map.shape:
        height, width = found_map.shape
        raise UserError(
            f"{where}: the prediction is {width} x {height} pixels, but the ground truth is "
            f"{truth_map.shape[1]} x {truth_map.shape[0]}: predict at the size of the image."
        )
    common, unlisted = shared_pixels(
        (truth_map, [info["id"] for info in truth_infos]),
        (found_map, [info["id"] for info in found_infos]),
    )
    of_truth, of_found = f"{where}, ground truth", f"{where}, prediction"
    remarks = [
        f"{of_map}: the map has a segment {ids[0]} that segments_info does not list, which counts "
        "as VOID."
        for of_map, ids in zip((of_truth, of_found), unlisted)
        if len(ids)
    ]
    truth = _segments(truth_infos, common[1:].sum(axis=1), of_truth, remarks)
    found = _segments(found_infos, common[:, 1:].sum(axis=0), of_found, remarks)
    void = common[0, 1:][common[:, 1:].any(axis=0)]
    common = common[1:, 1:][common[1:].any(axis=1)][:, common[:, 1:].any(axis=0)]
    return _match(truth, found, common, void, remarks)


def _match(truth: Segments, found: Segments, common, void, remarks: list[str]) -> ImageMatch:
    """`common` is (G, P), |p and g|; `void` is (P,), the pixels of p on VOID."""
    iou = common / (truth.areas[:, None] + found.areas - common - void)
    same = truth.categories[:, None] == found.categories
    hits = (iou > 0.5) & same & ~truth.crowd[:, None]
    missed = ~hits.any(axis=1) & ~truth.crowd
    # panopticapi knows one crowd region a category, the last that is listed.
    crowd_of_category = {truth.categories[g]: g for g in np.flatnonzero(truth.crowd)}
    last_crowds = sorted(crowd_of_category.values())
    excused = void + (common * same)[last_crowds].sum(axis=0)
    false = ~hits.any(axis=0) & ~(excused / found.areas > 0.5)
    return ImageMatch(truth, found, iou, hits, missed, false, remarks)


def shared_pixels(
    one: tuple[np.ndarray, list[int]], other: tuple[np.ndarray, list[int]]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """How many pixels each segment of one map shares with each segment of another.

    Args:
        one, other: (H, W) integer segment ids, and the T (T') ids that the annotation lists.

    Returns:
        pixels: (T + 1, T' + 1) int64, in the order of the ids; row and column 0 are VOID.
        unlisted: of either map the ids that are not listed, which count as VOID.
    """
    # Neighbours mostly belong together, so ids are looked up once a run of equal pairs.
    *values, lengths = _runs_of_pairs(one[0].ravel(), other[0].ravel())
    (rows, columns), unlisted = zip(*map(places_of, values, (one[1], other[1])))
    shape = len(one[1]) + 1, len(other[1]) + 1
    pixels = np.bincount(rows * shape[1] + columns, weights=lengths, minlength=shape[0] * shape[1])
    return pixels.astype(np.int64).reshape(shape), unlisted


def _runs_of_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, ...]:
    """The two values and the length of each run of equal pairs of two flat maps."""
    changes = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    starts = np.concatenate(([0], np.flatnonzero(changes) + 1))
    return first[starts], second[starts], np.diff(starts, append=len(first))


def _segments(infos: list[dict], areas: np.ndarray, where: str, remarks: list[str]) -> Segments:
    """The segments that have pixels."""
    there = areas > 0
    ids = np.array([info["id"] for info in infos], dtype=np.int64)
    if not there.all():
        remarks.append(
            f"{where}: segments_info lists a segment {ids[~there][0]} that has no pixel, which "
            "does not count."
        )
    categories = np.array([info["category_id"] for info in infos], dtype=np.int64)
    crowd = np.array([info.get("iscrowd", 0) for info in infos], dtype=bool)
    return Segments(ids[there], categories[there], areas[there], crowd[there])
