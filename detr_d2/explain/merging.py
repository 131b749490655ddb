"""The way from mask logits to the panoptic map, one map a step. [DETR 4.4]

`modeling.postprocessing.panoptic_from_masks` goes the same way and keeps no steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..modeling.merging import MergingRule, Round, contest, removal_rounds, unite_stuff
from ..modeling.upsampling import UpsampledMasks


@dataclass(frozen=True)
class MergingStep:
    """
    Attributes:
        title: what was done.
        winners: (H', W') int32, which of the P queries has each pixel, -1 where none is left.
        segments: (H', W') int32, the segment of each pixel: the first of its queries, or -1.
        removed: the queries (of the P) that were removed in this step.
        num_segments: segments that have pixels.
        pixels_changed: pixels whose segment is another than in the step before.
        shares: where queries are dropped for their share: that of each of the P, see `shares_won`.
    """

    title: str
    winners: Tensor
    segments: Tensor
    removed: list[int]
    num_segments: int
    pixels_changed: int
    shares: list[float] | None = None


def merging_steps(
    masks: UpsampledMasks, classes: Tensor, scores: Tensor, is_thing: Tensor, rule: MergingRule
) -> list[MergingStep]:
    """The steps of `panoptic_from_masks`, with its arguments: argmax, under the rule "scores" the
    drop of queries for their share, union of stuff, and then each round in which small segments are
    removed. Without queries there is no step.

    Args:
        masks: of the P kept queries.
        classes: (P,) int64.
        scores: (P,).
    """
    if not len(classes):
        return []
    found = contest(masks, scores, rule)
    first, *others = removal_rounds(found, unite_stuff(classes, is_thing, found.remaining), rule)
    winners = masks.spread(found.winners)
    title = "argmax of score x probability" if rule.by_scores else "argmax"
    steps = [MergingStep(title, winners, winners, [], _count(winners), 0)]
    winners, segments = _maps(masks, first)
    if found.shares is not None:
        title, removed = "queries with a small share dropped", _numbers(~found.remaining)
        steps.append(_next(steps[-1], title, winners, winners, removed, found.shares.tolist()))
    steps.append(_next(steps[-1], "stuff united", winners, segments, []))
    remaining = first.remaining
    for round_ in others:
        removed = _numbers(remaining & ~round_.remaining)
        steps.append(_next(steps[-1], "small segments removed", *_maps(masks, round_), removed))
        remaining = round_.remaining
    return steps


def _maps(masks: UpsampledMasks, round_: Round) -> tuple[Tensor, Tensor]:
    """(H', W') winners and segments, -1 where none is left."""
    winners, segments = map(masks.spread, (round_.winners, round_.segments))
    if not round_.remaining.any():
        winners = segments = torch.full_like(winners, -1)
    return winners, segments


def _numbers(queries: Tensor) -> list[int]:
    return queries.nonzero()[:, 0].tolist()


def _next(
    before: MergingStep,
    title: str,
    winners: Tensor,
    segments: Tensor,
    removed: list[int],
    shares: list[float] | None = None,
) -> MergingStep:
    changed = int((segments != before.segments).sum())
    return MergingStep(title, winners, segments, removed, _count(segments), changed, shares)


def _count(segments: Tensor) -> int:
    return len(segments[segments >= 0].unique())
