"""The losses of DETR: classes and boxes of the set, focal and dice of the masks."""

import torch
import torch.nn.functional as F
from detectron2.utils import comm
from torch import Tensor, nn
from torchvision.ops import box_convert

from .matcher import HungarianMatcher, Matches, Targets


def box_l1_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of |box - box'|_1 over P pairs of relative boxes (P, 4). [DETR 3.1]"""
    return F.l1_loss(boxes, target_boxes, reduction="sum")


def box_giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of 1 - GIoU over P pairs of relative (cx, cy, w, h), (P, 4). [DETR A.2]

    torchvision's `generalized_box_iou_loss` adds 1e-7 to areas that are themselves about 1e-3
    here, which shows in the fourth digit.
    """
    a, b = (box_convert(x, "cxcywh", "xyxy") for x in (boxes, target_boxes))
    area_a, area_b = boxes[:, 2] * boxes[:, 3], target_boxes[:, 2] * target_boxes[:, 3]
    least = torch.finfo(boxes.dtype).tiny  # two boxes without area have GIoU 0, not NaN
    overlap = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).clamp(min=0).prod(1)
    union = (area_a + area_b - overlap).clamp(min=least)
    hull = (torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]).prod(1).clamp(min=least)
    giou = overlap / union - (hull - union) / hull
    return (1 - giou).sum()


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Sum over K masks of 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1). [DETR A.2]

    Args:
        logits: (K, H, W).
        masks: (K, H, W) of 0 and 1, in the dtype of `logits`.
    """
    p, m = logits.sigmoid().flatten(1), masks.flatten(1)
    return (1 - (2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1)).sum()


def focal_loss(logits: Tensor, masks: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sum over K masks of the mean over pixels of -a_t (1 - p_t)^gamma log(p_t).

    p_t is the probability of the right answer, a_t is `alpha` on the mask and 1 - `alpha` off
    it. [Lin et al., arXiv:1708.02002, equation 5]

    Args:
        logits: (K, H, W).
        masks: (K, H, W) of 0 and 1, in the dtype of `logits`.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    wrong = (logits.sigmoid() - masks).abs()
    weight = alpha * masks + (1 - alpha) * (1 - masks)
    return (weight * wrong**gamma * cross_entropy).flatten(1).mean(1).sum()


class SetCriterion(nn.Module):
    """Matches predictions with ground truth and gives the weighted losses, ready to be summed."""

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        num_classes: int,
        no_object_weight: float,
        class_weight: float,
        l1_weight: float,
        giou_weight: float,
        mask_weight: float,
        dice_weight: float,
        focal_alpha: float,
        focal_gamma: float,
    ):
        """
        Args:
            num_classes: C; class C is no-object.
            no_object_weight: weight of no-object in the cross-entropy.
            class_weight, l1_weight, giou_weight, mask_weight, dice_weight: of the losses.
            focal_alpha, focal_gamma: see `focal_loss`.
        """
        super().__init__()
        self.matcher = matcher
        self.num_classes = num_classes
        self.class_weight = class_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        weights = torch.ones(num_classes + 1)
        weights[-1] = no_object_weight
        self.register_buffer("weight_of_class", weights, persistent=False)

    @staticmethod
    def arguments_from(detr) -> dict:
        """The constructor's arguments from the node `MODEL.DETR`."""
        return {
            "matcher": HungarianMatcher(
                cost_class=detr.COST_CLASS, cost_l1=detr.COST_L1, cost_giou=detr.COST_GIOU
            ),
            "num_classes": detr.NUM_CLASSES,
            "no_object_weight": detr.NO_OBJECT_WEIGHT,
            "class_weight": detr.CLASS_WEIGHT,
            "l1_weight": detr.L1_WEIGHT,
            "giou_weight": detr.GIOU_WEIGHT,
            "mask_weight": detr.MASK_WEIGHT,
            "dice_weight": detr.DICE_WEIGHT,
            "focal_alpha": detr.FOCAL_ALPHA,
            "focal_gamma": detr.FOCAL_GAMMA,
        }

    def set_losses(
        self, logits: Tensor, boxes: Tensor, targets: list[Targets], matches: Matches
    ) -> dict[str, Tensor]:
        """Class and box losses of L decoder layers. [DETR 3.1]

        Args:
            logits: (L, B, N, C + 1).
            boxes: (L, B, N, 4), relative (cx, cy, w, h).

        Returns:
            `loss_ce`, `loss_bbox`, `loss_giou` of the last layer, and of layer l of the others
            under the same names with `_l` behind.
        """
        target_boxes = torch.cat([t.boxes for t in targets])
        target_classes = self.target_classes(logits, targets, matches)
        num_boxes = number_of_targets(targets, logits.device)

        losses = {}
        last = len(logits) - 1
        for layer in range(len(logits)):
            suffix = "" if layer == last else f"_{layer}"
            matched = boxes[layer, matches.images, matches.queries[layer]]
            wanted = target_boxes[matches.targets[layer]]
            losses["loss_ce" + suffix] = self.class_weight * F.cross_entropy(
                logits[layer].flatten(0, 1), target_classes[layer].flatten(), self.weight_of_class
            )
            losses["loss_bbox" + suffix] = self.l1_weight * box_l1_loss(matched, wanted) / num_boxes
            losses["loss_giou" + suffix] = (
                self.giou_weight * box_giou_loss(matched, wanted) / num_boxes
            )
        return losses

    def mask_losses(
        self, mask_logits: Tensor, targets: list[Targets], matches: Matches, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Focal and dice loss of the last layer's matched queries, at the batch's padded size.

        Args:
            mask_logits: (P, H/4, W/4), in the order of `matches`.
            size: (H, W) of the padded batch, pixels.
        """
        logits = F.interpolate(
            mask_logits[:, None], size=size, mode="bilinear", align_corners=False
        )[:, 0]
        masks = target_masks(targets, matches, size).to(logits.dtype)
        num_masks = number_of_targets(targets, logits.device)
        focal = focal_loss(logits, masks, self.focal_alpha, self.focal_gamma)
        return {
            "loss_mask": self.mask_weight * focal / num_masks,
            "loss_dice": self.dice_weight * dice_loss(logits, masks) / num_masks,
        }

    def target_classes(self, logits: Tensor, targets: list[Targets], matches: Matches) -> Tensor:
        """(L, B, N) int64: the class that each query should say, no-object where unmatched."""
        classes = torch.full(
            logits.shape[:3], self.num_classes, dtype=torch.int64, device=logits.device
        )
        layers = torch.arange(len(logits), device=logits.device)[:, None]
        labels = torch.cat([t.labels for t in targets])
        classes[layers, matches.images, matches.queries] = labels[matches.targets]
        return classes

    @torch.no_grad()
    def diagnostics(
        self, logits: Tensor, targets: list[Targets], matches: Matches
    ) -> dict[str, float]:
        """What is worth watching and is not optimised, of the last layer's (B, N, C + 1) logits.

        Returns:
            `class_error`: percent of matched queries with the wrong class.
            `cardinality_error`: mean over images of |queries that are not no-object - segments|.
            `matching_cost`: mean cost of a pair.
        """
        predicted = logits.argmax(-1)
        labels = torch.cat([t.labels for t in targets])[matches.targets[-1]]
        wrong = predicted[matches.images, matches.queries[-1]] != labels
        sizes = torch.tensor([len(t.labels) for t in targets], device=logits.device)
        found = (predicted != self.num_classes).sum(1)
        class_error = 100 * wrong.float().mean() if len(wrong) else wrong.sum()
        cardinality_error = (found - sizes).abs().float().mean()
        class_error, cardinality_error = torch.stack((class_error, cardinality_error)).tolist()
        return {
            "class_error": class_error,
            "cardinality_error": cardinality_error,
            "matching_cost": matches.cost,
        }


def number_of_targets(targets: list[Targets], device) -> float:
    """Segments in the batch, averaged over processes, at least 1: what losses are divided by."""
    number = float(sum(len(t.labels) for t in targets))
    world_size = comm.get_world_size()
    if world_size > 1:
        total = torch.tensor(number, device=device)
        torch.distributed.all_reduce(total)
        number = float(total) / world_size
    return max(number, 1.0)


def target_masks(targets: list[Targets], matches: Matches, size: tuple[int, int]) -> Tensor:
    """(P, H, W) bool: the masks of the last layer's matched segments, padded with False."""
    starts = [0]
    for target in targets:
        starts.append(starts[-1] + len(target.labels))
    masks = []
    for target, start, segments in zip(targets, starts, matches.targets[-1].split(matches.counts)):
        h, w = target.segment_map.shape
        mask = target.segment_map == (segments - start + 1)[:, None, None]
        masks.append(F.pad(mask, (0, size[1] - w, 0, size[0] - h)))
    return torch.cat(masks)
