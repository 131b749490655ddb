"""From the tensors of one image to Detectron2's `Instances` and `panoptic_seg`. [DETR 4.4]"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .boxes import absolute_xyxy
from .precision import at_least_float32
from .upsampling import UpsampledMasks


def classify(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The best class of each query, no-object left aside.

    Args:
        logits: (..., N, C + 1), the last class is no-object.

    Returns:
        scores: (..., N), its probability.
        classes: (..., N) int64.
    """
    return at_least_float32(logits).softmax(-1)[..., :-1].max(-1)


def is_confident(logits: Tensor, score_threshold: float) -> Tensor:
    """(..., N, C + 1) -> (..., N) bool: is an object, and scores above the threshold."""
    scores, classes = at_least_float32(logits).softmax(-1).max(-1)
    return (classes != logits.shape[-1] - 1) & (scores > score_threshold)


def instances_from_queries(
    boxes: Tensor, scores: Tensor, classes: Tensor, output_size: tuple[int, int]
) -> Instances:
    """
    Args:
        boxes: (N, 4), relative (cx, cy, w, h).
        scores, classes: (N,).
        output_size: (height, width) of the original image.

    Returns:
        Instances with `pred_boxes` (pixels of the original image), `scores`, `pred_classes`.
    """
    instances = Instances(output_size)
    instances.pred_boxes = Boxes(absolute_xyxy(boxes, output_size))
    instances.pred_boxes.clip(output_size)
    instances.scores = scores
    instances.pred_classes = classes
    return instances


def instance_masks(masks: UpsampledMasks) -> Tensor:
    """(K, height, width) bool at the size of the original image, p > 0.5."""
    return masks.spread(masks.everywhere() > 0)


def panoptic_from_masks(
    masks: UpsampledMasks,
    classes: Tensor,
    scores: Tensor,
    is_thing: Tensor,
    small_segment_area: int,
    official_stuff_rule: bool = False,
) -> tuple[Tensor, list[dict]]:
    """Merge the masks of the kept queries into one map.

    Every pixel goes to the query with the highest mask logit there; queries of one stuff class
    are one segment; a segment of at most `small_segment_area` pixels is removed and its pixels
    go to the best of the queries that are left, until no segment is small.

    docs/panoptic_merging.md shows on an example what the official code does instead.

    Args:
        masks: of the K queries.
        classes: (K,) int64, contiguous.
        scores: (K,).
        is_thing: (C,) bool.
        small_segment_area: pixels of the output.
        official_stuff_rule: of the queries of one stuff class, keep the first alone; the pixels
            of the others go to the best of the queries that are left.

    Returns:
        panoptic_seg: (H', W') int32, the size of the original image, 0 = VOID (no query is left),
            ids from 1.
        segments_info: for each id, in order: `id`, `category_id` (contiguous), `isthing`,
            `score` (the best of its queries), `area` (pixels).
    """
    if not len(classes):
        return torch.zeros(masks.output_size, dtype=torch.int32, device=classes.device), []
    segment_of_query = unite_stuff(classes, is_thing)
    rounds = removal_rounds(masks, segment_of_query, small_segment_area, official_stuff_rule)
    (last,) = deque(rounds, maxlen=1)
    scores = scores.masked_fill(~last.left, 0.0)  # a removed query has no say
    ids, segments_info = _number_segments(last, segment_of_query, classes, scores, is_thing)
    return masks.spread(ids), segments_info


class Round(NamedTuple):
    """What one round of merging leaves.

    Attributes:
        left: (K,) bool, the queries that have not been removed.
        winners: (h', w') int64, the one of them that has each pixel; anything where none is left.
        segments: (h', w') int64, its segment.
        areas: (K,) int64, pixels of the result of each segment, at the place of its first query.
    """

    left: Tensor
    winners: Tensor
    segments: Tensor
    areas: Tensor


def removal_rounds(
    masks: UpsampledMasks,
    segment_of_query: Tensor,
    small_segment_area: int,
    official_stuff_rule: bool = False,
) -> Iterator[Round]:
    """First with all queries, then after each removal of the small segments, until there is none.

    Args:
        segment_of_query: (K,) int64, see `unite_stuff`.
        masks, small_segment_area, official_stuff_rule: see `panoptic_from_masks`.
    """
    left = torch.ones_like(segment_of_query, dtype=torch.bool)
    winners = masks.winners()
    while True:
        segments = segment_of_query[winners]
        areas = masks.areas(segments) * left.any()
        yield Round(left, winners, segments, areas)
        # The official code gives all pixels of a stuff class to its first query, then takes the
        # others, which are left with none, for small.
        area_of_query = areas if official_stuff_rule else areas[segment_of_query]
        small = left & (area_of_query <= small_segment_area)
        if not small.any():
            return
        left = left & ~small
        # Only the pixels of what was removed have a new winner.
        lost = small[winners].nonzero()
        winners = winners.clone()
        winners[tuple(lost.T)] = masks.winners_at(lost, left)


def unite_stuff(classes: Tensor, is_thing: Tensor) -> Tensor:
    """(K,) int64: for each query its segment, the first query of its stuff class, or, of a thing,
    itself."""
    first_of_class: dict[int, int] = {}
    things = is_thing.tolist()
    segments = [
        query if things[label] else first_of_class.setdefault(label, query)
        for query, label in enumerate(classes.tolist())
    ]
    return torch.tensor(segments, dtype=torch.int64, device=classes.device)


def _number_segments(
    last: Round, segment_of_query: Tensor, classes: Tensor, scores: Tensor, is_thing: Tensor
) -> tuple[Tensor, list[dict]]:
    """Give the segments that have pixels the ids 1, 2, ... and describe them."""
    areas = last.areas
    present = areas.nonzero()[:, 0]
    ids = torch.zeros(len(areas), dtype=torch.int32, device=areas.device)
    ids[present] = torch.arange(1, len(present) + 1, dtype=torch.int32, device=areas.device)
    best = torch.zeros_like(scores).scatter_reduce_(0, segment_of_query, scores, "amax")
    columns = (classes[present], is_thing[classes[present]], best[present], areas[present])
    segments_info = [
        {"id": id_, "category_id": label, "isthing": thing, "score": score, "area": area}
        for id_, (label, thing, score, area) in enumerate(zip(*map(Tensor.tolist, columns)), 1)
    ]
    return ids[last.segments], segments_info
