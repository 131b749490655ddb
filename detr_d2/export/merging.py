"""From the masks of the kept queries of one image to its panoptic map, written plainly.

It is what `detr_d2.modeling.merging` gives, without what makes that fast: every mask is computed at
every pixel. In operations that every runtime has, of tensors whose sizes are not known before.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.merging import MergingRule
from .geometry import Geometry


class Segments(NamedTuple):
    """The panoptic result of one image; tables have as many rows as there are queries.

    Attributes:
        panoptic_seg: (H', W') int32, ids from 1, 0 is VOID.
        classes: (N,) int64, of the segments 1, 2, ...; -1 behind the last.
        scores: (N,), 0 behind the last.
        areas: (N,) int64, pixels, 0 behind the last.
    """

    panoptic_seg: Tensor
    classes: Tensor
    scores: Tensor
    areas: Tensor


def merge(
    masks: Tensor,
    classes: Tensor,
    scores: Tensor,
    valid: Tensor,
    is_thing: Tensor,
    rule: MergingRule,
    geometry: Geometry,
    num_rows: int,
) -> Segments:
    """See `detr_d2.modeling.postprocessing.panoptic_from_masks`.

    Args:
        masks: (K, h, w) logits, K >= 1.
        classes, scores: (K,).
        valid: (K,) bool; the others take no part.
        is_thing: (C,) bool.
        num_rows: N.
    """
    # The official way goes to the picture that the network has seen, and from there by nearest.
    size = geometry.output_size if rule.by_scores else geometry.network_size
    masks = F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    left = valid
    if rule.by_scores:
        winners = winners_among(masks, scores, left, True)
        left = left & (shares_won(masks, winners) >= rule.least_share)  # NaN is not
    segment_of_query = unite_stuff(classes, is_thing, left)
    settle = settle_exported if torch.compiler.is_compiling() else settle_traced
    left, segments, areas = settle(
        (masks, scores, segment_of_query, *geometry.nearest),
        left,
        rule.by_scores,
        rule.small_segment_area,
        rule.official_stuff_rule,
    )
    return _number(segments, areas, segment_of_query, classes, scores.where(left, 0.0), num_rows)


def shares_won(masks: Tensor, winners: Tensor) -> Tensor:
    """As `detr_d2.modeling.shares.shares_won`, (K,) float64."""
    positive = masks > 0
    own = positive & (winners == _numbers(masks)[:, None, None])
    return own.sum((1, 2)).double() / positive.sum((1, 2)).double()


def unite_stuff(classes: Tensor, is_thing: Tensor, left: Tensor) -> Tensor:
    """As `detr_d2.modeling.merging.unite_stuff`, (K,) int64."""
    numbers = _numbers(classes)
    alone = is_thing[classes] | ~left
    alike = (classes[:, None] == classes) & ~alone
    first = torch.where(alike, numbers, numbers.max()).amin(1)
    return torch.where(alone, numbers, first)


def winners_among(masks: Tensor, scores: Tensor, left: Tensor, by_scores: bool) -> Tensor:
    """(K, H, W) -> (H, W) int64, the query that has each pixel; see `Competition`."""
    taking_part = left[:, None, None]
    masks = masks.masked_fill(~taking_part, -float("inf"))
    if not by_scores:
        return masks.argmax(0)
    highest = masks.amax(0).clamp(max=0)
    inverse = 1 / scores
    excess = inverse - 1 / scores.masked_fill(~left, 0.0).amax()
    costs = (highest - masks).exp() * inverse[:, None, None]
    costs = costs + highest.exp() * excess[:, None, None]
    return costs.masked_fill(~taking_part, float("inf")).argmin(0)


def areas_of(segments: Tensor, left: Tensor) -> Tensor:
    """(H, W) int64 below K, (K,) bool -> (K,) int64, pixels; none where no query is left."""
    places = segments.flatten()
    counts = torch.zeros_like(left, dtype=torch.int64)
    counts = counts.scatter_add(0, places, torch.ones_like(places))
    return counts * left.any()


# What stays the same in all rounds: masks (K, H, W), scores (K,), the segment of each query (K,)
# int64, and the rows and columns of `Geometry.nearest`. A tuple without names, as TorchScript asks.
Contest = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def one_round(
    contest: Contest, left: Tensor, by_scores: bool, small_area: int, official_stuff_rule: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `removal_rounds`.

    Args:
        left: (K,) bool, the queries that take part.

    Returns:
        segments (H', W') int64, areas (K,) int64, and the queries of small segments (K,) bool.
    """
    masks, scores, of_query, rows, columns = contest
    segments = of_query[winners_among(masks, scores, left, by_scores)]
    if not by_scores:
        segments = segments.index_select(0, rows).index_select(1, columns)
    areas = areas_of(segments, left)
    area_of_query = areas if official_stuff_rule else areas[of_query]
    return segments, areas, left & (area_of_query <= small_area)


@torch.jit.script_if_tracing
def settle_traced(
    contest: Contest, left: Tensor, by_scores: bool, small_area: int, official_stuff_rule: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Remove small segments until there is none.

    Returns:
        left (K,) bool, segments (H', W') int64, areas (K,) int64.
    """
    segments, areas, small = one_round(contest, left, by_scores, small_area, official_stuff_rule)
    while bool(small.any()):
        left = left & ~small
        segments, areas, small = one_round(
            contest, left, by_scores, small_area, official_stuff_rule
        )
    return left, segments, areas


def settle_exported(
    contest: Contest, left: Tensor, by_scores: bool, small_area: int, official_stuff_rule: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As `settle_traced`, with the loop of torch.export."""
    from torch._higher_order_ops.while_loop import while_loop

    rule = by_scores, small_area, official_stuff_rule

    def goes_on(left, segments, areas, small):
        return small.any()

    def body(left, segments, areas, small):
        left = left & ~small
        return left, *one_round(contest, left, *rule)

    start = left.clone(), *one_round(contest, left, *rule)
    return while_loop(goes_on, body, start)[:3]


def _number(
    segments: Tensor,
    areas: Tensor,
    segment_of_query: Tensor,
    classes: Tensor,
    scores: Tensor,
    num_rows: int,
) -> Segments:
    """Give the segments that have pixels the ids 1, 2, ...; see `_number_segments` there."""
    present = areas > 0
    ids = present.long().cumsum(0) * present
    own = segment_of_query == _numbers(areas)[:, None]
    best = torch.where(own, scores, torch.zeros_like(scores)).amax(1)
    # What is no segment goes to a row behind the last.
    place = torch.where(present, ids - 1, num_rows)

    def table(values: Tensor, behind: float) -> Tensor:
        rows = torch.full((num_rows + 1,), behind, dtype=values.dtype, device=values.device)
        return rows.scatter(0, place, values)[:num_rows]

    return Segments(ids[segments].int(), table(classes, -1), table(best, 0), table(areas, 0))


def _numbers(values: Tensor) -> Tensor:
    """(K, ...) -> 0 to K - 1."""
    return torch.arange(values.shape[0], device=values.device)
