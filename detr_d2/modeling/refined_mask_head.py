"""The mask head with what lets masks be learned soon: a semantic map first, and a window a thing.

DETR's mask head has to find out from 48 cells of H/32 what belongs to a query. Here a mask starts
from what each pixel is anyway, and a thing, whose box is known, is seen in the frame of its box.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..classes import panoptic_classes
from ..errors import UserError
from .computing import at_least_float32
from .criterion import SetCriterion, number_of_targets
from .mask_head import MaskHeadSmallConv, MaskQueries
from .matcher import Matches, Targets, weights_of
from .pyramid import points_of
from .registries import MASK_HEAD_REGISTRY, TRANSFORMER_REGISTRY
from .semantic import (
    SemanticHead,
    classes_of,
    cross_entropy_of_shares,
    dice_of_shares,
    log_odds,
    pad_segment_maps,
    shares_of_classes,
    weights_of_pixels,
)
from .windows import WindowHead, nearest, paste, sample, windows_of

NOT_HERE = 8.0  # beyond the window, logits are below the negative of this


@MASK_HEAD_REGISTRY.register()
class RefinedMaskHead(MaskHeadSmallConv):
    """The log-odds of each query's class, plus `MaskHeadSmallConv`, plus windows for things.

    Things that are in windows alone do not need attention maps at H/32 and convolutions of the
    whole image, which are for stuff then.
    """

    is_thing: Tensor

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        thing_classes: list[int],
        pyramid_channels: int,
        num_levels: int,
        semantic_stride: int,
        window_resolution: int,
        things_in_windows: bool,
        mask_stride: int,
        semantic_weight: float,
        semantic_dice_weight: float,
        semantic_gain: float,
        **mask_head,
    ):
        """
        Args:
            num_classes: C.
            thing_classes: contiguous.
            pyramid_channels: p.
            num_levels: of the pyramid.
            semantic_stride: pixels a logit of the semantic map, and of masks without windows.
            window_resolution: R; a window has 2R x 2R logits, from features at R x R points.
            things_in_windows: a thing's mask is made in its window alone, where it ends, and does
                without `MaskHeadSmallConv`; else it is DETR's, corrected in the window.
            mask_stride: pixels of the network's input a logit at inference: 1, 2 or 4.
            semantic_weight, semantic_dice_weight: of the semantic map's losses; without the
                latter, 0, there is no `loss_semantic_dice`.
            semantic_gain: what the log-odds are multiplied by at first; it is learned.
            **mask_head: the arguments of `MaskHeadSmallConv`.
        """
        super().__init__(**mask_head)
        self.things_in_windows, self.mask_stride = things_in_windows, mask_stride
        self.semantic_weight, self.semantic_dice_weight = semantic_weight, semantic_dice_weight
        self.semantic_stride = semantic_stride
        self.semantic = SemanticHead(pyramid_channels, num_classes, num_levels, semantic_stride)
        self.semantic_gain = nn.Parameter(torch.full((2,), semantic_gain))  # of stuff, of things
        self.window = WindowHead(self.d_model, pyramid_channels, window_resolution)
        is_thing = torch.zeros(num_classes, dtype=torch.bool)
        is_thing[thing_classes] = True
        self.register_buffer("is_thing", is_thing, persistent=False)

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        """By MODEL.DETR, and the things of DATASETS.

        Raises:
            UserError: where the transformer has no pyramid.
        """
        detr = cfg.MODEL.DETR
        levels = getattr(TRANSFORMER_REGISTRY.get(detr.TRANSFORMER), "pyramid_outputs", ())
        if not levels:
            raise UserError(
                f"MODEL.DETR.MASK_HEAD RefinedMaskHead needs a pyramid, and {detr.TRANSFORMER} has "
                "none: set MODEL.DETR.TRANSFORMER RegionTransformer or ProposalTransformer."
            )
        return {
            **super().from_config(cfg, backbone_shape),
            "num_classes": detr.NUM_CLASSES,
            "thing_classes": panoptic_classes(cfg).things,
            "pyramid_channels": detr.PYRAMID_CHANNELS,
            "num_levels": len(levels),
            "semantic_stride": detr.SEMANTIC_STRIDE,
            "window_resolution": detr.WINDOW_RESOLUTION,
            "things_in_windows": detr.THINGS_IN_WINDOWS,
            "mask_stride": detr.MASK_STRIDE,
            "semantic_weight": detr.SEMANTIC_WEIGHT,
            "semantic_dice_weight": detr.SEMANTIC_DICE_WEIGHT,
            "semantic_gain": detr.SEMANTIC_GAIN,
        }

    def forward(  # type: ignore[override]  # it needs the queries
        self, projected, maps, counts, features, queries: MaskQueries
    ) -> Tensor:
        """As `MaskHeadSmallConv.forward`, at `mask_stride`.

        Returns:
            (K, H / mask_stride, W / mask_stride), mask logits.
        """
        masks = self.parts(projected, maps, counts, features, queries)
        height, width = queries.padded_size
        size = (-(-height // self.mask_stride), -(-width // self.mask_stride))
        logits = F.interpolate(masks.coarse[:, None], size, mode="bilinear", align_corners=False)
        logits = logits[:, 0]
        things = masks.things
        if len(things):
            y, x = (
                (torch.arange(n, device=maps.device, dtype=logits.dtype) + 0.5) * side / n
                for n, side in zip(size, (height, width))
            )
            pasted, inside = paste(masks.window_logits, masks.windows, x, y)
            within = logits[things]
            outside = within.clamp(max=0) - NOT_HERE if self.things_in_windows else within
            logits[things] = torch.where(inside, within + pasted, outside)
        return logits

    def losses(
        self,
        arguments: tuple,
        targets: list[Targets],
        matches: Matches,
        criterion: SetCriterion,
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """See `MaskHeadSmallConv.losses`. Masks of things are compared in their windows, those of
        stuff, and the semantic map, at its stride."""
        masks = self.parts(*arguments)
        maps = pad_segment_maps(targets, size)
        # Which pixels are a pair's: the image's own number of the segment, t + 1.
        starts = torch.tensor([0] + [len(t.labels) for t in targets]).cumsum(0).to(maps.device)
        numbers = matches.targets[-1] - starts[matches.images] + 1
        weights = weights_of(targets, matches.targets[-1])
        of_things, of_stuff = (
            f(masks, maps, matches.images, numbers, weights, criterion)
            for f in (self._window_losses, self._stuff_losses)
        )
        # Segments, not pairs: the further masks of training count in full, beside the matched.
        number = number_of_targets(targets, maps.device)
        losses = {name: (of_things[name] + of_stuff[name]) / number for name in of_things}
        losses.update(self._semantic_losses(at_least_float32(masks.semantic), maps, targets))
        return losses

    def _semantic_losses(self, semantic, maps, targets: list[Targets]) -> dict[str, Tensor]:
        """Of the semantic map (B, C, h, w), and segments (B, H, W)."""
        classes, weights = classes_of(maps, targets), weights_of_pixels(maps, targets)
        shares = shares_of_classes(classes, semantic, weights)
        log_probability = semantic.permute(0, 2, 3, 1).log_softmax(-1)
        cross_entropy = cross_entropy_of_shares(log_probability, shares)
        losses = {"loss_semantic": self.semantic_weight * cross_entropy}
        if self.semantic_dice_weight:
            counted = None if weights is None else shares_of_classes(classes, semantic)
            dice = dice_of_shares(log_probability, shares, counted)
            losses["loss_semantic_dice"] = self.semantic_dice_weight * dice
        return losses

    def _window_losses(self, masks: "MaskParts", maps, images, numbers, weights, criterion):
        things, resolution = masks.things, masks.window_logits.shape[-1]
        points = points_of(masks.windows, resolution)
        wanted = nearest(maps, images[things], points) == numbers[things, None]
        logits = sample(masks.coarse[things], masks.windows, resolution, maps.shape[-2:])
        logits = logits + at_least_float32(masks.window_logits)
        weights = None if weights is None else weights[things]
        wanted = wanted.view_as(logits).to(logits.dtype)
        return criterion.window_mask_losses(logits, wanted, weights)

    def _stuff_losses(self, masks: "MaskParts", maps, images, numbers, weights, criterion):
        stuff = masks.stuff
        y, x = (
            ((torch.arange(n, device=maps.device) + 0.5) * (side / n)).long()
            for n, side in zip(masks.coarse.shape[-2:], maps.shape[-2:])
        )
        wanted = maps[:, y[:, None], x][images[stuff]] == numbers[stuff, None, None]
        logits = at_least_float32(masks.coarse[stuff])
        weights = None if weights is None else weights[stuff]
        return criterion.small_mask_losses(logits, wanted.to(logits.dtype), weights)

    def parts(self, projected, maps, counts, features, queries: MaskQueries) -> "MaskParts":
        """What the masks are made of; the arguments are those of `forward`."""
        semantic = self.semantic(queries.decoded.levels.maps)
        thing = queries.probabilities[:, self.is_thing].sum(1) > 0.5
        gain = self.semantic_gain[thing.long()]
        odds = log_odds(semantic)
        of_queries = torch.cat(
            [
                torch.einsum("kc,chw->khw", p, o)
                for p, o in zip(queries.probabilities.to(odds.dtype).split(counts), odds)
            ]
        )
        start = gain[:, None, None] * of_queries
        stuff = (~thing).nonzero()[:, 0]
        everything = torch.arange(len(thing), device=thing.device)
        convolved = stuff if self.things_in_windows else everything
        counts = queries.images[convolved].bincount(minlength=len(counts)).tolist()
        masks = super().forward(projected, maps[convolved], counts, features, queries)
        masks = F.interpolate(masks[:, None].to(start.dtype), start.shape[-2:], mode="bilinear")
        coarse = start.index_add(0, convolved, masks[:, 0])
        things = thing.nonzero()[:, 0]
        images = queries.images[things]
        windows = windows_of(queries.boxes[things], queries.sizes[images])
        window_logits = self.window(
            queries.decoded.levels, windows, images, queries.embeddings[things]
        )
        return MaskParts(coarse, start, semantic, things, stuff, windows, window_logits)


@dataclass(frozen=True)
class MaskParts:
    """
    Attributes:
        coarse: (K, H/s, W/s), mask logits without windows, s the stride of the semantic map.
        start: (K, H/s, W/s), the part of them that is the query's class in the semantic map.
        semantic: (B, C, H/s, W/s).
        things, stuff: int64, which of the K queries.
        windows: (T, 4), (x0, y0, x1, y1) of things, pixels.
        window_logits: (T, 2R, 2R), added in the windows.
    """

    coarse: Tensor
    start: Tensor
    semantic: Tensor
    things: Tensor
    stuff: Tensor
    windows: Tensor
    window_logits: Tensor
