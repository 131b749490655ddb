"""From the tensors of one image to Detectron2's `Instances` and `panoptic_seg`. [DETR 4.4]"""

from collections import deque

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .boxes import absolute_xyxy
from .computing import at_least_float32
from .merging import MergingRule, Round, contest, removal_rounds, unite_stuff
from .upsampling import UpsampledMasks, look_up


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
    return masks.spread(masks.positive())


def panoptic_from_masks(
    masks: UpsampledMasks,
    classes: Tensor,
    scores: Tensor,
    is_thing: Tensor,
    rule: MergingRule,
) -> tuple[Tensor, list[dict]]:
    """Merge the masks of the kept queries into one map.

    Every pixel goes to the query with the highest mask logit there, or, as the rule says, to the
    one with the highest product of class score and mask probability; queries that are left with too
    little of their masks are then dropped. Queries of one stuff class are one segment; a segment of
    few pixels is removed and its pixels go to the best of the queries that are left, until no
    segment is small.

    docs/panoptic_merging.md shows the rules on an example.

    Args:
        masks: of the K queries, upsampled as the rule has it (`MergingRule.upsampled`).
        classes: (K,) int64, contiguous.
        scores: (K,).
        is_thing: (C,) bool.

    Returns:
        panoptic_seg: (H', W') int32, the size of the original image, 0 = VOID (no query is left),
            ids from 1.
        segments_info: for each id, in order: `id`, `category_id` (contiguous), `isthing`,
            `score` (the best of its queries), `area` (pixels).
    """
    if not len(classes):
        return torch.zeros(masks.output_size, dtype=torch.int32, device=classes.device), []
    found = contest(masks, scores, rule)
    segment_of_query = unite_stuff(classes, is_thing, found.remaining)
    (last,) = deque(removal_rounds(found, segment_of_query, rule), maxlen=1)
    scores = scores.masked_fill(~last.remaining, 0.0)  # a removed query has no say
    ids, segments_info = _number_segments(last, segment_of_query, classes, scores, is_thing)
    return masks.spread(ids), segments_info


def _number_segments(
    last: Round, segment_of_query: Tensor, classes: Tensor, scores: Tensor, is_thing: Tensor
) -> tuple[Tensor, list[dict]]:
    """Give the segments that have pixels the ids 1, 2, ... and describe them."""
    areas = last.areas
    present = areas.nonzero()[:, 0]
    ids = torch.zeros(len(areas), dtype=torch.int32, device=areas.device)
    ids[present] = torch.arange(1, len(present) + 1, dtype=torch.int32, device=areas.device)
    best = torch.zeros_like(scores).scatter_reduce_(0, segment_of_query.long(), scores, "amax")
    columns = (classes[present], is_thing[classes[present]], best[present], areas[present])
    segments_info = [
        {"id": id_, "category_id": label, "isthing": thing, "score": score, "area": area}
        for id_, (label, thing, score, area) in enumerate(zip(*map(Tensor.tolist, columns)), 1)
    ]
    return look_up(ids, last.segments), segments_info
