"""From the masks of the kept queries to segments. [DETR 4.4; Cheng et al., arXiv:2112.01527]

docs/panoptic_merging.md shows the rules on an example.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..errors import UserError
from .competition import Competition, HighestLogit, HighestScore
from .shares import shares_won
from .upsampling import UpsampledMasks, look_up

MERGES = ("official", "scores")


@dataclass(frozen=True)
class MergingRule:
    """How masks are merged: the keys of MODEL.DETR.PANOPTIC.

    Attributes:
        merge: what decides who has a pixel: "official", the mask logit; "scores", the product of
            class score and mask probability, and a query that is left with too little of its mask
            is dropped.
        small_segment_area: segments of at most this many pixels of the output are removed.
        least_share: of "scores": a query that wins less of its own mask's pixels is dropped.
        official_stuff_rule: of "official": of the queries of one stuff class, keep the first alone;
            the pixels of the others go to the best of the queries that are left.
    """

    merge: str = "official"
    small_segment_area: int = 4
    least_share: float = 0.7
    official_stuff_rule: bool = False

    def __post_init__(self):
        if self.merge not in MERGES:
            raise UserError(
                f"MODEL.DETR.PANOPTIC.MERGE is {self.merge}: set it to one of {', '.join(MERGES)}."
            )
        if not 0 <= self.least_share <= 1:
            raise UserError(
                f"MODEL.DETR.PANOPTIC.LEAST_SHARE is {self.least_share}: set it to a share of a "
                "mask's pixels, from 0 to 1."
            )
        if self.by_scores and self.official_stuff_rule:
            raise UserError(
                "MODEL.DETR.PANOPTIC.OFFICIAL_STUFF_RULE belongs to MERGE official: set it to "
                "False, or MERGE to official."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "MergingRule":
        """By MODEL.DETR.PANOPTIC."""
        panoptic = cfg.MODEL.DETR.PANOPTIC
        return cls(
            panoptic.MERGE,
            panoptic.SMALL_SEGMENT_AREA,
            panoptic.LEAST_SHARE,
            panoptic.OFFICIAL_STUFF_RULE,
        )

    @property
    def by_scores(self) -> bool:
        """Whether pixels go by class score times mask probability."""
        return self.merge == "scores"

    def upsampled(
        self,
        logits: Tensor,
        padded_size: tuple[int, ...],
        image_size: tuple[int, ...],
        output_size: tuple[int, ...],
    ) -> UpsampledMasks:
        """Masks on their way to the result, with the arguments of `UpsampledMasks`: nearest as in
        the official code, or bilinear all the way."""
        nearest = not self.by_scores
        return UpsampledMasks(logits, padded_size, image_size, output_size, nearest)


class Contest(NamedTuple):
    """Who has each pixel, before there are segments.

    Attributes:
        competition: of the K queries.
        winners: (h', w') int32, the query that has each pixel while all take part.
        shares: (K,) float64, see `shares_won`; None where they do not count.
        remaining: (K,) bool, the queries that are not dropped for their share.
    """

    competition: Competition
    winners: Tensor
    shares: Tensor | None
    remaining: Tensor


def contest(masks: UpsampledMasks, scores: Tensor, rule: MergingRule) -> Contest:
    """
    Args:
        masks: of the K queries, K >= 1, see `MergingRule.upsampled`.
        scores: (K,).
    """
    decides = HighestScore(scores) if rule.by_scores else HighestLogit()
    competition = Competition(masks, decides)
    remaining = torch.ones_like(scores, dtype=torch.bool)
    winners = competition.winners(remaining)
    if not rule.by_scores:
        return Contest(competition, winners, None, remaining)
    shares = shares_won(masks, winners)
    return Contest(competition, winners, shares, shares >= rule.least_share)  # NaN is not


class Round(NamedTuple):
    """What one round of merging leaves.

    Attributes:
        remaining: (K,) bool, the queries that have not been removed.
        winners: (h', w') int32, the one of them that has each pixel; anything where none is left.
        segments: (h', w') int32, its segment.
        areas: (K,) int64, pixels of the result of each segment, at the place of its first query.
    """

    remaining: Tensor
    winners: Tensor
    segments: Tensor
    areas: Tensor


def removal_rounds(found: Contest, segment_of_query: Tensor, rule: MergingRule) -> Iterator[Round]:
    """First with all queries that the contest leaves, then after each removal of the small
    segments, until there is none.

    Args:
        segment_of_query: (K,) int32, see `unite_stuff`.
    """
    competition, winners, _, remaining = found
    winners = competition.winners(remaining, winners)
    while True:
        segments = look_up(segment_of_query, winners)
        areas = competition.masks.areas(segments) * remaining.any()
        yield Round(remaining, winners, segments, areas)
        # The official code gives all pixels of a stuff class to its first query, then takes the
        # others, which are left with none, for small.
        area_of_query = areas if rule.official_stuff_rule else look_up(areas, segment_of_query)
        small = remaining & (area_of_query <= rule.small_segment_area)
        if not small.any():
            return
        remaining = remaining & ~small
        winners = competition.winners(remaining, winners)


def unite_stuff(classes: Tensor, is_thing: Tensor, remaining: Tensor) -> Tensor:
    """For each query its segment: of stuff the first query of the class, of a thing itself.

    Args:
        classes: (K,) int64.
        is_thing: (C,) bool.
        remaining: (K,) bool, the queries that have not been dropped; the others stand alone.

    Returns:
        (K,) int32.
    """
    first_of_class: dict[int, int] = {}
    alone = (is_thing[classes] | ~remaining).tolist()
    segments = [
        query if alone[query] else first_of_class.setdefault(label, query)
        for query, label in enumerate(classes.tolist())
    ]
    return torch.tensor(segments, dtype=torch.int32, device=classes.device)
