"""Bipartite matching of predictions and ground truth. [DETR 3.1, equations 1 and 2]"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import UserError
from .boxes import generalized_iou

_FORBIDDEN = 1e6  # more than any pair costs
_NOT_FINITE = 1e5  # what a pair costs whose losses will be no finite numbers either


@dataclass(frozen=True)
class Targets:
    """Ground truth of one image with T segments.

    Attributes:
        labels: (T,) int64, contiguous classes.
        boxes: (T, 4), (cx, cy, w, h) relative to the unpadded image.
        segment_map: (H, W) integer, t + 1 at the pixels of segment t and 0 at VOID; None where
            there are no masks.
        weights: (T,) float32, how much each segment counts in the losses, a segment of weight w as
            w segments and its pixels as w pixels; None, in all images of a batch: 1.
    """

    labels: Tensor
    boxes: Tensor
    segment_map: Tensor | None = None
    weights: Tensor | None = None


def weights_of(targets: list[Targets], segments: Tensor | None = None) -> Tensor | None:
    """The weights of the batch's segments, or of these (counted through the whole batch); None
    where all are 1."""
    weights = [t.weights for t in targets if t.weights is not None]
    if len(weights) < len(targets):
        return None
    of_all = torch.cat(weights)
    return of_all if segments is None else of_all[segments]


@dataclass(frozen=True)
class Matches:
    """P pairs of queries and segments for each of L decoder layers: of image b min(N, T_b), or
    fewer where classes have queries of their own.

    Attributes:
        images: (P,) int64, ascending: in which image of the batch the pair is.
        queries: (L, P) int64, which of the image's N queries.
        targets: (L, P) int64, which segment, counted through the whole batch.
        boxed: (P',) int64, the pairs whose boxes are trained: of queries that are no class's own.
        counts: pairs of each of the B images.
        cost: mean cost of the last layer's pairs; 0 where there are none.
    """

    images: Tensor
    queries: Tensor
    targets: Tensor
    boxed: Tensor
    counts: list[int]
    cost: float


def matching_cost(
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    target_boxes: Tensor,
    *,
    cost_class: float,
    cost_l1: float,
    cost_giou: float,
) -> Tensor:
    """What it costs to match each query with each segment.

        cost_class * -p(label) + cost_l1 * |box - box'|_1 - cost_giou * GIoU(box, box')

    Args:
        logits: (Q, C + 1), the last class is no-object.
        boxes: (Q, 4), relative (cx, cy, w, h).
        labels: (T,) int64.
        target_boxes: (T, 4), relative (cx, cy, w, h).

    Returns:
        (Q, T).
    """
    probability = logits.softmax(-1)[:, labels]
    l1 = torch.cdist(boxes, target_boxes, p=1)
    giou = generalized_iou(boxes[:, None], target_boxes)
    return cost_l1 * l1 - cost_class * probability - cost_giou * giou


class HungarianMatcher:
    """Finds, for each image and decoder layer, the pairs of least total cost."""

    def __init__(
        self,
        *,
        cost_class: float,
        cost_l1: float,
        cost_giou: float,
        fixed_classes: tuple[int, ...] = (),
    ):
        """
        Args:
            fixed_classes: query i is for class i of these, if there are any, and its pair is the
                segment of that class; the other queries and segments are matched by cost.
        """
        self.fixed_classes = fixed_classes
        if not (cost_class or cost_l1 or cost_giou):
            raise UserError("All matching costs are 0: set one of MODEL.DETR.COST_*.")
        self.costs = {"cost_class": cost_class, "cost_l1": cost_l1, "cost_giou": cost_giou}

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, targets: list[Targets]) -> Matches:
        """
        Args:
            logits: (L, B, N, C + 1), of L decoder layers.
            boxes: (L, B, N, 4).
            targets: of the B images.

        Returns:
            Pairs, also where predictions or targets are not finite: that is seen by the losses.
        """
        labels = torch.cat([t.labels for t in targets])
        cost = matching_cost(
            logits.flatten(0, 2),
            boxes.flatten(0, 2),
            labels,
            torch.cat([t.boxes for t in targets]),
            **self.costs,
        )
        cost = cost.view(*logits.shape[:3], -1)
        cost = cost.nan_to_num(nan=_NOT_FINITE, posinf=_NOT_FINITE, neginf=_NOT_FINITE)
        cost = cost.masked_fill(self._forbidden(labels, logits.shape[2]), _FORBIDDEN)
        # All layers and images travel to the CPU together: the device is waited for once.
        cost = cost.cpu()
        sizes = [len(t.labels) for t in targets]
        pairs = np.stack([_assign_images(layer.numpy(), sizes) for layer in cost], axis=1)
        (images, *_), queries, columns = pairs
        counts = np.bincount(images, minlength=len(sizes)).tolist()
        of_last = cost[-1].numpy()[images, queries[-1], columns[-1]]

        # The queries with a class of their own have the same pairs in all layers.
        boxed = np.flatnonzero(queries[-1] >= len(self.fixed_classes))
        mean_cost = float(of_last.mean()) if len(of_last) else 0.0
        images, queries, columns = (
            torch.from_numpy(np.concatenate((images[None], queries, columns)))
            .to(logits.device)
            .split((1, len(cost), len(cost)))
        )
        boxed = torch.from_numpy(boxed).to(logits.device)
        return Matches(images[0], queries, columns, boxed, counts, mean_cost)

    @torch.no_grad()
    def nearest(
        self, logits: Tensor, boxes: Tensor, labels: Tensor, target_boxes: Tensor
    ) -> Tensor:
        """The queries of one image that T known things cost least with, another one each as long as
        there are some left.

        Args:
            logits: (N, C + 1).
            boxes: (N, 4).
            labels: (T,) int64, -1 where the class is none of the C.
            target_boxes: (T, 4).

        Returns:
            (T,) int64.
        """
        of_boxes = {**self.costs, "cost_class": 0.0}
        cost = matching_cost(logits, boxes, labels, target_boxes, **of_boxes)
        of_class = self.costs["cost_class"] * logits.softmax(-1)[:, labels]
        cost = (cost - of_class * (labels >= 0)).cpu().numpy()
        found, left = np.zeros(len(labels), dtype=np.int64), np.arange(len(labels))
        while len(left):
            queries, columns = linear_sum_assignment(cost[:, left])
            found[left[columns]] = queries
            left = np.delete(left, columns)
        return torch.from_numpy(found).to(logits.device)

    def _forbidden(self, labels: Tensor, num_queries: int) -> Tensor:
        """(N, sum of T_b) bool, True where a fixed class keeps a query and a segment apart."""
        fixed = torch.tensor(self.fixed_classes, dtype=labels.dtype, device=labels.device)
        own = fixed[:, None] == labels
        others = own.any(0).expand(num_queries - len(fixed), -1)
        return torch.cat((~own, others))


def _assign_images(cost: np.ndarray, sizes: list[int]) -> np.ndarray:
    """(B, N, sum of T_b) costs of one layer -> (3, P): images, queries and, batch-wide, segments.

    Least cost has as few forbidden pairs as there can be, in every layer the same number.
    """
    pairs = []
    start = 0
    for image, size in enumerate(sizes):
        queries, segments = linear_sum_assignment(cost[image, :, start : start + size])
        segments = segments + start
        allowed = cost[image, queries, segments] < _FORBIDDEN
        pairs.append((np.full(allowed.sum(), image), queries[allowed], segments[allowed]))
        start += size
    return np.concatenate(pairs, axis=1)
