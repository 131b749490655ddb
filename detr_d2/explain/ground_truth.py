"""A traced image beside its ground truth: who is matched with whom, and which segments are hits."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.panoptic_map import boxes_of_segments, read_segment_map
from ..evaluation.panoptic_quality import match_segments
from ..modeling.boxes import relative_cxcywh
from ..modeling.matcher import HungarianMatcher, Targets, matching_cost
from .image_trace import ImageTrace


@dataclass(frozen=True)
class GroundTruth:
    """
    Attributes:
        segment_map: (H', W') int32, t + 1 at segment t, 0 at VOID.
        classes: (T,) int64, contiguous.
        is_crowd: (T,) bool.
    """

    segment_map: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray


def read_ground_truth(dataset_dict: dict) -> GroundTruth:
    """The panoptic annotation that a dataset dict names."""
    infos = dataset_dict["segments_info"]
    return GroundTruth(
        read_segment_map(dataset_dict).astype(np.int32),
        np.array([info["category_id"] for info in infos], dtype=np.int64),
        np.array([bool(info.get("iscrowd")) for info in infos], dtype=bool),
    )


@dataclass(frozen=True)
class Pair:
    """A query and the segment of the ground truth that it is matched with. [DETR 3.1]

    Attributes:
        query: of the N.
        segment: of the T.
        cost_class, cost_l1, cost_giou: the weighted parts of the cost.
    """

    query: int
    segment: int
    cost_class: float
    cost_l1: float
    cost_giou: float

    @property
    def cost(self) -> float:
        """The whole cost, by which pairs are matched."""
        return self.cost_class + self.cost_l1 + self.cost_giou


def matched_pairs(traced: ImageTrace, truth: GroundTruth, matcher: HungarianMatcher) -> list[Pair]:
    """The pairs of least total cost, the dearest first."""
    _, corners = boxes_of_segments(truth.segment_map, len(truth.classes))
    logits, predicted = traced["logits"], traced["boxes"]
    boxes = relative_cxcywh(torch.from_numpy(corners).to(predicted), truth.segment_map.shape)
    labels = torch.from_numpy(truth.classes).to(logits.device)
    matches = matcher(logits[None, None], predicted[None, None], [Targets(labels, boxes)])
    queries, segments = matches.queries[-1], matches.targets[-1]
    none = dict.fromkeys(matcher.costs, 0.0)
    parts = {
        part: matching_cost(logits, predicted, labels, boxes, **{**none, part: weight})
        for part, weight in matcher.costs.items()
    }
    pairs = [
        Pair(q, t, **{part: cost[q, t].item() for part, cost in parts.items()})
        for q, t in zip(queries.tolist(), segments.tolist())
    ]
    return sorted(pairs, key=lambda pair: -pair.cost)


@dataclass(frozen=True)
class Verdict:
    """What panoptic quality says of a segment. [Kirillov et al., arXiv:1801.00868]

    Attributes:
        verdict: "hit", "miss" (of the ground truth), "false alarm" (of the prediction), or
            "ignored" (a crowd, or a prediction that is mostly VOID or crowd).
        segment: of the T; None for a false alarm.
        predicted_id: of the panoptic map, from 1; None for a miss.
        iou: of hits; of others the best with a segment of the same class on the other side.
    """

    verdict: str
    segment: int | None
    predicted_id: int | None
    iou: float


def verdicts(predicted: Tensor, segments_info: list[dict], truth: GroundTruth) -> list[Verdict]:
    """Hits (IoU > 0.5 and the same class), misses and false alarms of one image.

    Args:
        predicted: (H', W') int32 ids from 1, in the order of `segments_info`; 0 = VOID.
    """
    truth_infos = [
        {"id": t + 1, "category_id": label, "iscrowd": crowd}
        for t, (label, crowd) in enumerate(zip(truth.classes.tolist(), truth.is_crowd.tolist()))
    ]
    match = match_segments(
        truth.segment_map, truth_infos, predicted.cpu().numpy(), segments_info, "the image"
    )
    same_class = match.truth.categories[:, None] == match.found.categories
    iou = np.where(same_class & ~match.truth.crowd[:, None], match.iou, 0.0)
    found = []
    for row, id_ in enumerate(match.truth.ids.tolist()):
        hit = match.hits[row].nonzero()[0]
        verdict = "hit" if len(hit) else "miss" if match.missed[row] else "ignored"
        predicted_id = int(match.found.ids[hit[0]]) if len(hit) else None
        found.append(Verdict(verdict, id_ - 1, predicted_id, iou[row].max(initial=0.0)))
    for column in (~match.hits.any(0)).nonzero()[0]:
        verdict = "false alarm" if match.false[column] else "ignored"
        best = iou[:, column].max(initial=0.0)
        found.append(Verdict(verdict, None, int(match.found.ids[column]), best))
    return found
