"""Losses of pairs of a prediction and a segment, summed: pure functions."""

import torch.nn.functional as F
from torch import Tensor

from .boxes import generalized_iou


def weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of P values, (P,) or (P, ...), each times its weight (P,); None: times 1."""
    if weights is not None:
        values = values * weights.view(-1, *(1 for _ in values.shape[1:]))
    return values.sum()


def box_l1_loss(boxes: Tensor, target_boxes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sum of |box - box'|_1 over P pairs of relative boxes (P, 4). [DETR 3.1]"""
    return weighted_sum(F.l1_loss(boxes, target_boxes, reduction="none"), weights)


def box_giou_loss(boxes: Tensor, target_boxes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sum of 1 - GIoU over P pairs of relative (cx, cy, w, h), (P, 4). [DETR A.2]"""
    return weighted_sum(1 - generalized_iou(boxes, target_boxes), weights)


def dice_loss(logits: Tensor, masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over K masks of 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1). [DETR A.2]

    Args:
        logits: (K, H, W).
        masks: (K, H, W) of 0 and 1, in the dtype of `logits`.
        weights: (K,), of the masks in the sum.
    """
    p, m = logits.sigmoid().flatten(1), masks.flatten(1)
    return weighted_sum(1 - (2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1), weights)


def class_loss(logits: Tensor, classes: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted sum of -log p(class) over P logits (P, C + 1). [DETR 3.1, equation 2]"""
    if weights is None:
        return F.cross_entropy(logits, classes, reduction="sum")
    return weighted_sum(F.cross_entropy(logits, classes, reduction="none"), weights)


def focal_loss(
    logits: Tensor, masks: Tensor, alpha: float, gamma: float, weights: Tensor | None = None
) -> Tensor:
    """Sum over K masks of the mean over pixels of -a_t (1 - p_t)^gamma log(p_t).

    p_t is the probability of the right answer, a_t is `alpha` on the mask and 1 - `alpha` off
    it. [Lin et al., arXiv:1708.02002, equation 5]

    Args:
        logits: (K, H, W).
        masks: (K, H, W) of 0 and 1, in the dtype of `logits`.
        weights: (K,), of the masks in the sum.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    wrong = (logits.sigmoid() - masks).abs()
    weight = alpha * masks + (1 - alpha) * (1 - masks)
    return weighted_sum((weight * wrong**gamma * cross_entropy).flatten(1).mean(1), weights)
