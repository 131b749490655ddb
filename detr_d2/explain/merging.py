"""The way from mask logits to the panoptic map, one map a step. [DETR 4.4]

`modeling.postprocessing.panoptic_from_masks` goes the same way and keeps no steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..modeling.postprocessing import removal_rounds, unite_stuff
from ..modeling.upsampling import UpsampledMasks


@dataclass(frozen=True)
class MergingStep:
    """
    Attributes:
        title: what was done.
        winners: (H', W') int64, which of the P queries has each pixel, -1 where none is left.
        segments: (H', W') int64, the segment of each pixel: the first of its queries, or -1.
        removed: the queries (of the P) that were removed in this step.
        num_segments: segments that have pixels.
        pixels_changed: pixels whose segment is another than in the step before.
    """

    title: str
    winners: Tensor
    segments: Tensor
    removed: list[int]
    num_segments: int
    pixels_changed: int


def merging_steps(
    masks: UpsampledMasks,
    classes: Tensor,
    is_thing: Tensor,
    small_segment_area: int,
    official_stuff_rule: bool = False,
) -> list[MergingStep]:
    """The steps of `panoptic_from_masks`, with its arguments: argmax, union of stuff, and then each
    round in which small segments are removed. Without queries there is no step.

    Args:
        masks: of the P kept queries.
        classes: (P,) int64.
    """
    if not len(classes):
        return []
    united = unite_stuff(classes, is_thing)
    first, *others = removal_rounds(masks, united, small_segment_area, official_stuff_rule)
    winners = masks.spread(first.winners)
    steps = [MergingStep("argmax", winners, winners, [], _count(winners), 0)]
    steps.append(_next(steps[-1], "stuff united", winners, masks.spread(first.segments), []))
    left = first.left
    for round_ in others:
        winners, segments = map(masks.spread, (round_.winners, round_.segments))
        if not round_.left.any():
            winners = segments = torch.full_like(winners, -1)
        removed = (left & ~round_.left).nonzero()[:, 0].tolist()
        steps.append(_next(steps[-1], "small segments removed", winners, segments, removed))
        left = round_.left
    return steps


def _next(
    before: MergingStep, title: str, winners: Tensor, segments: Tensor, removed: list[int]
) -> MergingStep:
    changed = int((segments != before.segments).sum())
    return MergingStep(title, winners, segments, removed, _count(segments), changed)


def _count(segments: Tensor) -> int:
    return len(segments[segments >= 0].unique())
