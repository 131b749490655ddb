"""The losses of DETR: classes and boxes of the set, focal and dice of the masks."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import UserError
from .counts import are_shared, mean_over_parts
from .losses import box_giou_loss, box_l1_loss, class_loss, dice_loss, focal_loss, weighted_sum
from .matcher import HungarianMatcher, Matches, Targets, weights_of

# Where p is not yet near the truth, focal loss is about a tenth of cross-entropy.
_CROSS_ENTROPY_FOR_FOCAL = 0.1


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
        classes = self.target_classes(logits, targets, matches)
        weights = self._query_weights(logits, targets, matches)
        num_boxes = number_of_targets(targets, logits.device, but_not=self.matcher.fixed_classes)
        # A query of its class's own needs no box: where stuff is says its mask.
        fixed = len(self.matcher.fixed_classes)
        others = slice(fixed, None)
        of_classes = self._class_losses(logits, classes, weights, others, self.weight_of_class)
        if fixed:
            # Whether their class is there is as often yes as no: no-object weighs 1.
            same = torch.ones_like(self.weight_of_class)
            of_fixed = self._class_losses(logits, classes, weights, slice(fixed), same)

        losses = {}
        last = len(logits) - 1
        for layer in range(len(logits)):
            suffix = "" if layer == last else f"_{layer}"
            pairs = matches.images[matches.boxed], matches.queries[layer, matches.boxed]
            segments = matches.targets[layer, matches.boxed]
            losses["loss_ce" + suffix] = of_classes[layer]
            if fixed:
                losses["loss_ce_fixed" + suffix] = of_fixed[layer]
            compared = boxes[layer][pairs], target_boxes[segments], weights_of(targets, segments)
            losses["loss_bbox" + suffix] = self.l1_weight * box_l1_loss(*compared) / num_boxes
            losses["loss_giou" + suffix] = self.giou_weight * box_giou_loss(*compared) / num_boxes
        return losses

    def _class_losses(
        self,
        logits: Tensor,
        classes: Tensor,
        weights: Tensor | None,
        queries: slice,
        weight_of_class: Tensor,
    ) -> Sequence[Tensor]:
        """Cross-entropy of some of the N queries: of each layer, the mean over all in a step.

        Args:
            logits: (L, B, N, C + 1).
            classes: (L, B, N) int64.
            weights: (L, B, N), those of the classes aside; None where all are 1.
            weight_of_class: (C + 1,).
        """
        logits, classes = logits[:, :, queries], classes[:, :, queries]
        if weights is None:
            # In every layer as many queries are matched, and all classes but no-object weigh 1.
            number = weight_of_class[classes[0]].sum()
            share = number / mean_over_parts(number) if are_shared() else 1.0
            return [
                self.class_weight
                * share
                * F.cross_entropy(of_layer.flatten(0, 1), wanted.flatten(), weight_of_class)
                for of_layer, wanted in zip(logits, classes)
            ]
        weights = weights[:, :, queries] * weight_of_class[classes]
        entropy = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), reduction="none")
        total = (weights * entropy.view_as(weights)).sum((1, 2))
        return (self.class_weight * total / mean_over_parts(weights.sum((1, 2)))).unbind()

    def pair_losses(
        self,
        logits: Tensor,
        boxes: Tensor,
        labels: Tensor,
        target_boxes: Tensor,
        weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Class and box losses of P pairs beside the matched ones, of L decoder layers.

        Args:
            logits: (L, P, C + 1).
            boxes: (L, P, 4), relative (cx, cy, w, h).
            labels: (P,) int64.
            target_boxes: (P, 4).
            weights: (P,); None where all are 1.
        """
        layers = len(logits)
        number = mean_over_parts(weighted_sum(logits.new_ones(len(labels)), weights))
        weights = None if weights is None else weights.repeat(layers)
        compared = boxes.flatten(0, 1), target_boxes.repeat(layers, 1), weights
        cross_entropy = class_loss(logits.flatten(0, 1), labels.repeat(layers), weights)
        return {
            "loss_ce_further": self.class_weight * cross_entropy / number,
            "loss_bbox_further": self.l1_weight * box_l1_loss(*compared) / number,
            "loss_giou_further": self.giou_weight * box_giou_loss(*compared) / number,
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
        weights = weights_of(targets, matches.targets[-1])
        if weights is None:
            weights = mask_logits.new_ones(len(mask_logits))
        # The sum of nothing. With no pair at all, it still ties the loss to every parameter,
        # whose gradients distributed training waits for.
        focal = dice = mask_logits[:0].sum()
        masks = target_masks(targets, matches, size)
        chunks = (x.split(self.masks_per_chunk) for x in (mask_logits, weights))
        for logits, of_masks in zip(*chunks):
            if not len(logits):
                break
            of_some = checkpoint(
                self._mask_losses_of_some,
                logits,
                torch.stack(list(islice(masks, len(logits)))),
                of_masks,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            focal, dice = focal + of_some[0], dice + of_some[1]
        return {
            "loss_mask": self.mask_weight * focal / num_masks,
            "loss_dice": self.dice_weight * dice / num_masks,
        }

    def small_mask_losses(
        self, logits: Tensor, masks: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Sums over K masks at the resolution of their logits, (K, h, w) each; masks of 0 and 1,
        their weights (K,)."""
        focal = focal_loss(logits, masks, self.focal_alpha, self.focal_gamma, weights)
        return self._weighted(focal, dice_loss(logits, masks, weights))

    def window_mask_losses(
        self, logits: Tensor, masks: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The same for masks of things in their windows. A thing is about half of its window:
        focal loss, which is for small parts of large images, is plain cross-entropy here."""
        pixels = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        pixels = _CROSS_ENTROPY_FOR_FOCAL * weighted_sum(pixels.flatten(1).mean(1), weights)
        return self._weighted(pixels, dice_loss(logits, masks, weights))

    def _weighted(self, pixels: Tensor, dice: Tensor) -> dict[str, Tensor]:
        return {"loss_mask": self.mask_weight * pixels, "loss_dice": self.dice_weight * dice}

    def _mask_losses_of_some(
        self, logits: Tensor, masks: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(K, H/4, W/4) logits, (K, H, W) bool, (K,) -> sums of focal and dice loss."""
        size = masks.shape[-2:]
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
        masks = masks.to(logits.dtype)
        focal = focal_loss(logits, masks, self.focal_alpha, self.focal_gamma, weights)
        return focal, dice_loss(logits, masks, weights)

    def target_classes(self, logits: Tensor, targets: list[Targets], matches: Matches) -> Tensor:
        """(L, B, N) int64: the class that each query should say, no-object where unmatched."""
        labels = torch.cat([t.labels for t in targets])
        return _of_queries(labels[matches.targets], self.num_classes, logits, matches)

    def _query_weights(
        self, logits: Tensor, targets: list[Targets], matches: Matches
    ) -> Tensor | None:
        """(L, B, N), of the segment that each query is matched with, else 1; None: all are 1."""
        of_pairs = weights_of(targets, matches.targets)
        return None if of_pairs is None else _of_queries(of_pairs, 1, logits, matches)

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


def _of_queries(of_pairs: Tensor, otherwise: int, logits: Tensor, matches: Matches) -> Tensor:
    """(L, P) -> (L, B, N) as the logits are, `otherwise` at queries that are not matched."""
    values = of_pairs.new_full(logits.shape[:3], otherwise)
    layers = torch.arange(len(logits), device=logits.device)[:, None]
    values[layers, matches.images, matches.queries] = of_pairs
    return values


def number_of_targets(
    targets: list[Targets], device: torch.device, but_not: tuple[int, ...] = ()
) -> Tensor:
    """The weights of the batch's segments, averaged over the parts of a step: what losses are
    divided by.

    It stays a tensor (scalar, float32), since reading it would wait for the device.

    Args:
        but_not: classes whose segments do not count.
    """
    labels = torch.cat([t.labels for t in targets])
    others = torch.tensor(but_not, dtype=labels.dtype, device=labels.device)
    counted = (~torch.isin(labels, others)).to(device, torch.float32)
    return mean_over_parts(weighted_sum(counted, weights_of(targets)))


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
