"""The losses of DETR: classes and boxes of the set, focal and dice of the masks."""

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from .boxes import generalized_iou
from .counts import are_shared, mean_over_parts
from .matcher import HungarianMatcher, Matches, Targets

# Where p is not yet near the truth, focal loss is about a tenth of cross-entropy.
_CROSS_ENTROPY_FOR_FOCAL = 0.1


def box_l1_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of |box - box'|_1 over P pairs of relative boxes (P, 4). [DETR 3.1]"""
    return F.l1_loss(boxes, target_boxes, reduction="sum")


def box_giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Sum of 1 - GIoU over P pairs of relative (cx, cy, w, h), (P, 4). [DETR A.2]"""
    return (1 - generalized_iou(boxes, target_boxes)).sum()


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
    """The weighted losses of pairs of queries and segments, ready to be summed.

    The pairs are given; the model has them of `matcher`, which is here since it goes by the same
    classes and boxes.
    """

    weight_of_class: Tensor

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
        masks_per_chunk: int = 1,
    ):
        """
        Args:
            num_classes: C; class C is no-object.
            no_object_weight: weight of no-object in the cross-entropy.
            class_weight, l1_weight, giou_weight, mask_weight, dice_weight: of the losses.
            focal_alpha, focal_gamma: see `focal_loss`.
            masks_per_chunk: so many are compared at a time, see `mask_losses`.
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
        if masks_per_chunk < 1:
            raise UserError(
                f"MODEL.DETR.LOSS_MASKS_PER_CHUNK is {masks_per_chunk}: set the number of masks "
                "that are compared at a time, at least 1."
            )
        self.masks_per_chunk = masks_per_chunk
        weights = torch.ones(num_classes + 1)
        weights[-1] = no_object_weight
        self.register_buffer("weight_of_class", weights, persistent=False)

    @staticmethod
    def arguments_from(detr, fixed_classes: tuple[int, ...] = ()) -> dict:
        """The constructor's arguments from the node `MODEL.DETR`, and the matcher's classes."""
        return {
            "matcher": HungarianMatcher(
                cost_class=detr.COST_CLASS,
                cost_l1=detr.COST_L1,
                cost_giou=detr.COST_GIOU,
                fixed_classes=fixed_classes,
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
            "masks_per_chunk": detr.LOSS_MASKS_PER_CHUNK,
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
        num_boxes = number_of_targets(targets, logits.device, but_not=self.matcher.fixed_classes)
        # A query of its class's own needs no box: where stuff is says its mask.
        fixed = len(self.matcher.fixed_classes)

        # In every layer as many queries are matched, and all classes but no-object weigh 1.
        share, share_of_fixed = self._shares(target_classes[0]) if are_shared() else (1.0, 1.0)

        losses = {}
        last = len(logits) - 1
        for layer in range(len(logits)):
            suffix = "" if layer == last else f"_{layer}"
            pairs = matches.images[matches.boxed], matches.queries[layer, matches.boxed]
            matched = boxes[layer][pairs]
            wanted = target_boxes[matches.targets[layer, matches.boxed]]
            cross_entropy = F.cross_entropy(
                logits[layer, :, fixed:].flatten(0, 1),
                target_classes[layer, :, fixed:].flatten(),
                self.weight_of_class,
            )
            losses["loss_ce" + suffix] = self.class_weight * share * cross_entropy
            if fixed:
                # Whether their class is there is as often yes as no: no-object weighs 1.
                cross_entropy = F.cross_entropy(
                    logits[layer, :, :fixed].flatten(0, 1),
                    target_classes[layer, :, :fixed].flatten(),
                )
                losses["loss_ce_fixed" + suffix] = (
                    self.class_weight * share_of_fixed * cross_entropy
                )
            losses["loss_bbox" + suffix] = self.l1_weight * box_l1_loss(matched, wanted) / num_boxes
            losses["loss_giou" + suffix] = (
                self.giou_weight * box_giou_loss(matched, wanted) / num_boxes
            )
        return losses

    def _shares(self, classes: Tensor) -> tuple[Tensor, Tensor | float]:
        """(B, N), of one layer -> what makes weighted means over these queries, those that are
        matched and those of a class's own, parts of the means over all queries of a step."""
        fixed = len(self.matcher.fixed_classes)
        weights = self.weight_of_class[classes[:, fixed:]].sum()
        share = weights / mean_over_parts(weights)
        if not fixed:
            return share, 1.0
        of_fixed = weights.new_tensor(classes[:, :fixed].numel())
        return share, of_fixed / mean_over_parts(of_fixed)

    def pair_losses(
        self, logits: Tensor, boxes: Tensor, labels: Tensor, target_boxes: Tensor
    ) -> dict[str, Tensor]:
        """Class and box losses of P pairs beside the matched ones, of L decoder layers.

        Args:
            logits: (L, P, C + 1).
            boxes: (L, P, 4), relative (cx, cy, w, h).
            labels: (P,) int64.
            target_boxes: (P, 4).
        """
        layers = len(logits)
        number = mean_over_parts(logits.new_full((), len(labels)))
        labels, target_boxes = labels.repeat(layers), target_boxes.repeat(layers, 1)
        boxes = boxes.flatten(0, 1)
        cross_entropy = F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum")
        return {
            "loss_ce_further": self.class_weight * cross_entropy / number,
            "loss_bbox_further": self.l1_weight * box_l1_loss(boxes, target_boxes) / number,
            "loss_giou_further": self.giou_weight * box_giou_loss(boxes, target_boxes) / number,
        }

    def mask_losses(
        self, mask_logits: Tensor, targets: list[Targets], matches: Matches, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Focal and dice loss of the last layer's matched queries, at the batch's padded size.

        They are sums over masks, and at the padded size a mask is 16 times larger than the
        mask head's output. So a few masks at a time are upsampled and compared, and in the backward
        pass, for their gradient, once more: what is kept for P masks is these few, plus P times
        the 16th part.

        Args:
            mask_logits: (P, H/4, W/4), in the order of `matches`.
            size: (H, W) of the padded batch, pixels.
        """
        num_masks = number_of_targets(targets, mask_logits.device)
        # The sum of nothing. With no pair at all, it still ties the loss to every parameter,
        # whose gradients distributed training waits for.
        focal = dice = mask_logits[:0].sum()
        masks = target_masks(targets, matches, size)
        for logits in mask_logits.split(self.masks_per_chunk):
            if not len(logits):
                break
            of_some = checkpoint(
                self._mask_losses_of_some,
                logits,
                torch.stack(list(islice(masks, len(logits)))),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            focal, dice = focal + of_some[0], dice + of_some[1]
        return {
            "loss_mask": self.mask_weight * focal / num_masks,
            "loss_dice": self.dice_weight * dice / num_masks,
        }

    def small_mask_losses(self, logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Sums over K masks at the resolution of their logits, (K, h, w) each; masks of 0 and 1."""
        focal = focal_loss(logits, masks, self.focal_alpha, self.focal_gamma)
        return self._weighted(focal, dice_loss(logits, masks))

    def window_mask_losses(self, logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """The same for masks of things in their windows. A thing is about half of its window:
        focal loss, which is for small parts of large images, is plain cross-entropy here."""
        pixels = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        pixels = _CROSS_ENTROPY_FOR_FOCAL * pixels.flatten(1).mean(1).sum()
        return self._weighted(pixels, dice_loss(logits, masks))

    def _weighted(self, pixels: Tensor, dice: Tensor) -> dict[str, Tensor]:
        return {"loss_mask": self.mask_weight * pixels, "loss_dice": self.dice_weight * dice}

    def _mask_losses_of_some(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(K, H/4, W/4) logits and (K, H, W) bool -> sums of focal and dice loss."""
        size = masks.shape[-2:]
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
        masks = masks.to(logits.dtype)
        focal = focal_loss(logits, masks, self.focal_alpha, self.focal_gamma)
        return focal, dice_loss(logits, masks)

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


def number_of_targets(
    targets: list[Targets], device: torch.device, but_not: tuple[int, ...] = ()
) -> Tensor:
    """Segments in the batch, averaged over the parts of a step: what losses are divided by.

    It stays a tensor (scalar, float32), since reading it would wait for the device.

    Args:
        but_not: classes whose segments do not count.
    """
    labels = torch.cat([t.labels for t in targets])
    others = torch.tensor(but_not, dtype=labels.dtype, device=labels.device)
    number = (~torch.isin(labels, others)).sum()
    return mean_over_parts(number.to(device, torch.float32))


def target_masks(
    targets: list[Targets], matches: Matches, size: tuple[int, int]
) -> Iterator[Tensor]:
    """The masks of the last layer's P matched segments, one by one: (H, W) bool, padded."""
    start = 0
    for target, segments in zip(targets, matches.targets[-1].split(matches.counts)):
        assert target.segment_map is not None, "masks are trained where all images have them"
        h, w = target.segment_map.shape
        for segment in segments:
            mask = target.segment_map == segment - start + 1
            yield F.pad(mask, (0, size[1] - w, 0, size[0] - h))
        start += len(target.labels)
