"""The official criterion: layer by layer, image by image, all masks at the size of the batch."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert

Pairs = list[tuple[Tensor, Tensor]]  # of each image the matched queries and their segments


def losses(
    predictions: list[dict], targets: list[dict], detr, size: tuple[int, int]
) -> dict[str, Tensor]:
    """
    Args:
        predictions: of each decoder layer `logits` (B, N, C + 1) and `boxes` (B, N, 4), relative
            (cx, cy, w, h); the last one also has `masks` (B, N, H/4, W/4) where there are any.
        targets: of each image `labels` (T,), `boxes` (T, 4) and `masks` (T, h, w) bool.
        detr: the node MODEL.DETR of the configuration.
        size: (H, W) of the padded batch.

    Returns:
        Weighted losses by the names that `detr_d2.modeling` gives them.
    """
    num_boxes = max(sum(len(t["labels"]) for t in targets), 1)
    result = {}
    for layer, prediction in enumerate(predictions):
        pairs = match(prediction, targets, detr)
        last = layer == len(predictions) - 1
        for name, value in set_losses(prediction, targets, pairs, detr, num_boxes).items():
            result[name if last else f"{name}_{layer}"] = value
        if last and "masks" in prediction:
            masks = mask_losses(prediction["masks"], targets, pairs, detr, num_boxes, size)
            result.update(masks)
    return result


@torch.no_grad()
def match(prediction: dict, targets: list[dict], detr) -> Pairs:
    """Pairs of least cost, image by image. [DETR, equations 1 and 2]"""
    batch, num_queries = prediction["logits"].shape[:2]
    probability = prediction["logits"].flatten(0, 1).softmax(-1)
    boxes = prediction["boxes"].flatten(0, 1)
    labels = torch.cat([t["labels"] for t in targets])
    target_boxes = torch.cat([t["boxes"] for t in targets])
    cost = (
        detr.COST_L1 * torch.cdist(boxes, target_boxes, p=1)
        - detr.COST_CLASS * probability[:, labels]
        - detr.COST_GIOU * pairwise_giou(boxes, target_boxes)
    )
    cost = cost.view(batch, num_queries, -1).cpu()
    counts = [len(t["labels"]) for t in targets]
    pairs = [linear_sum_assignment(c[b]) for b, c in enumerate(cost.split(counts, -1))]
    return [(torch.as_tensor(queries), torch.as_tensor(segments)) for queries, segments in pairs]


def set_losses(prediction, targets, pairs: Pairs, detr, num_boxes) -> dict[str, Tensor]:
    """Weighted losses of one layer's classes and boxes; `num_boxes` divides those of boxes."""
    logits = prediction["logits"]
    images, queries = _indices(pairs)
    classes = torch.full(logits.shape[:2], logits.shape[2] - 1, device=logits.device)
    matched = [t["labels"][segments] for t, (_, segments) in zip(targets, pairs)]
    classes[images, queries] = torch.cat(matched)
    weights = torch.ones(logits.shape[2])  # in float32, as ours are kept
    weights[-1] = detr.NO_OBJECT_WEIGHT
    entropy = F.cross_entropy(logits.transpose(1, 2), classes, weights.to(logits))

    boxes = prediction["boxes"][images, queries]
    wanted = torch.cat([t["boxes"][segments] for t, (_, segments) in zip(targets, pairs)])
    giou = torch.diag(pairwise_giou(boxes, wanted))
    return {
        "loss_ce": detr.CLASS_WEIGHT * entropy,
        "loss_bbox": detr.L1_WEIGHT * (boxes - wanted).abs().sum() / num_boxes,
        "loss_giou": detr.GIOU_WEIGHT * (1 - giou).sum() / num_boxes,
    }


def mask_losses(masks, targets, pairs: Pairs, detr, num_boxes, size) -> dict[str, Tensor]:
    """Float targets of all segments, padded to the batch; then those that are matched."""
    most = max(len(t["labels"]) for t in targets)
    wanted = torch.zeros(len(targets), most, *size, dtype=masks.dtype, device=masks.device)
    for b, target in enumerate(targets):
        t, h, w = target["masks"].shape
        wanted[b, :t, :h, :w] = target["masks"]
    wanted = wanted[_indices([(segments, queries) for queries, segments in pairs])].flatten(1)
    logits = masks[_indices(pairs)][:, None]
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0].flatten(1)

    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p_t = p * wanted + (1 - p) * (1 - wanted)
    alpha_t = detr.FOCAL_ALPHA * wanted + (1 - detr.FOCAL_ALPHA) * (1 - wanted)
    focal = alpha_t * entropy * (1 - p_t) ** detr.FOCAL_GAMMA
    dice = 1 - (2 * (p * wanted).sum(1) + 1) / (p.sum(1) + wanted.sum(1) + 1)
    return {
        "loss_mask": detr.MASK_WEIGHT * focal.mean(1).sum() / num_boxes,
        "loss_dice": detr.DICE_WEIGHT * dice.sum() / num_boxes,
    }


def pairwise_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """(P, 4), (Q, 4) relative (cx, cy, w, h) -> (P, Q)."""
    a = box_convert(boxes, "cxcywh", "xyxy")[:, None]
    b = box_convert(others, "cxcywh", "xyxy")[None]
    area_a, area_b = ((x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b))
    overlap = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0)
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).prod(-1)
    overlap = overlap.prod(-1)
    union = area_a + area_b - overlap
    return overlap / union - (hull - union) / hull


def _indices(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Numbers of images and of what is first in their pairs, to index (B, N, ...) with."""
    images = torch.cat([torch.full_like(first, b) for b, (first, _) in enumerate(pairs)])
    return images, torch.cat([first for first, _ in pairs])
