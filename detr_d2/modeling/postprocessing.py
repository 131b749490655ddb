"""From the tensors of one image to Detectron2's `Instances` and `panoptic_seg`. [DETR 4.4]"""

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor

from .boxes import absolute_xyxy
from .precision import at_least_float32


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


def upsample_masks(
    mask_logits: Tensor, padded_size: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """(K, H/4, W/4) -> (K, height, width): bilinear to the padded batch, cropped to the image.

    Queries are channels, last in memory: the K logits of a pixel lie together, where the argmax of
    `panoptic_from_masks` wants them. On a CPU both are then several times faster.
    """
    if not len(mask_logits):  # which cannot be channels
        return mask_logits.new_zeros(0, *image_size)
    channels = mask_logits[None].contiguous(memory_format=torch.channels_last)
    masks = F.interpolate(channels, size=padded_size, mode="bilinear", align_corners=False)
    return masks[0, :, : image_size[0], : image_size[1]]


def resize_nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) of any dtype -> (..., *size), to the pixel as Pillow's NEAREST does it."""
    h, w = values.shape[-2:]
    rows = _nearest_centres(h, size[0]).to(values.device)
    columns = _nearest_centres(w, size[1]).to(values.device)
    return values[..., rows[:, None], columns]


def _nearest_centres(old: int, new: int) -> Tensor:
    # floor((i + 1/2) old / new). Pillow comes to it by adding up steps, and where a centre lies
    # between two pixels, the rounding error of its sum decides.
    steps = np.full(new, old / new)
    steps[0] /= 2
    return torch.from_numpy(steps.cumsum().astype(np.int64)).clamp(max=old - 1)


def instance_masks(mask_logits: Tensor, output_size: tuple[int, int]) -> Tensor:
    """(K, height, width) logits of the processed image -> (K, *output_size) bool, p > 0.5."""
    return resize_nearest(mask_logits > 0, output_size)


def panoptic_from_masks(
    mask_logits: Tensor,
    classes: Tensor,
    scores: Tensor,
    is_thing: Tensor,
    output_size: tuple[int, int],
    small_segment_area: int,
    official_stuff_rule: bool = False,
) -> tuple[Tensor, list[dict]]:
    """Merge the masks of the kept queries into one map.

    Every pixel goes to the query with the highest mask logit there; queries of one stuff class
    are one segment; a segment of at most `small_segment_area` pixels is removed and its pixels
    go to the best of the queries that are left, until no segment is small.

    docs/panoptic_merging.md shows on an example what the official code does instead.

    Args:
        mask_logits: (K, height, width), of the processed image, without padding.
        classes: (K,) int64, contiguous.
        scores: (K,).
        is_thing: (C,) bool.
        output_size: (height, width) of the original image.
        small_segment_area: pixels of the output.
        official_stuff_rule: of the queries of one stuff class, keep the first alone; the pixels
            of the others go to the best of the queries that are left.

    Returns:
        panoptic_seg: `output_size` int32, 0 = VOID (no query is left), ids from 1.
        segments_info: for each id, in order: `id`, `category_id` (contiguous), `isthing`,
            `score` (the best of its queries), `area` (pixels).
    """
    device = mask_logits.device
    segment_of_query = unite_stuff(classes.tolist(), is_thing.tolist())
    segment_of_query = torch.tensor(segment_of_query, dtype=torch.int64, device=device)
    left = torch.ones(len(classes), dtype=torch.bool, device=device)
    if len(classes):
        winner = mask_logits.argmax(0)
    while left.any():
        segments = resize_nearest(segment_of_query[winner], output_size)
        areas = segments.flatten().bincount(minlength=len(classes))
        # The official code gives all pixels of a stuff class to its first query, then takes the
        # others, which are left with none, for small.
        area_of_query = areas if official_stuff_rule else areas[segment_of_query]
        small = left & (area_of_query <= small_segment_area)
        if not small.any():
            scores = scores.masked_fill(~left, 0.0)  # a removed query has no say
            return _number_segments(segments, areas, segment_of_query, classes, scores, is_thing)
        left &= ~small
        # Only the pixels of what was removed have a new winner.
        lost = small[winner]
        contenders = mask_logits[:, lost]
        contenders[~left] = float("-inf")
        winner[lost] = contenders.argmax(0)
    return torch.zeros(output_size, dtype=torch.int32, device=device), []


def unite_stuff(classes: list[int], is_thing: list[bool]) -> list[int]:
    """For each query its segment: the first query of its stuff class, or itself if a thing."""
    first_of_class: dict[int, int] = {}
    return [
        query if is_thing[label] else first_of_class.setdefault(label, query)
        for query, label in enumerate(classes)
    ]


def _number_segments(
    segments: Tensor,
    areas: Tensor,
    segment_of_query: Tensor,
    classes: Tensor,
    scores: Tensor,
    is_thing: Tensor,
) -> tuple[Tensor, list[dict]]:
    """Give the segments that have pixels the ids 1, 2, ... and describe them."""
    present = areas.nonzero()[:, 0]
    ids = torch.zeros(len(areas), dtype=torch.int32, device=segments.device)
    ids[present] = torch.arange(1, len(present) + 1, dtype=torch.int32, device=segments.device)
    best = torch.zeros_like(scores).scatter_reduce_(0, segment_of_query, scores, "amax")
    columns = (classes[present], is_thing[classes[present]], best[present], areas[present])
    segments_info = [
        {"id": id_, "category_id": label, "isthing": thing, "score": score, "area": area}
        for id_, (label, thing, score, area) in enumerate(zip(*map(Tensor.tolist, columns)), 1)
    ]
    return ids[segments], segments_info
