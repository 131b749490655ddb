"""The mask head with what lets masks be learned soon: a semantic map first, and a window a thing.

DETR's mask head has to find out from 48 cells of H/32 what belongs to a query. Here it starts from
what each pixel is anyway, and a thing, whose box is known, is seen in the frame of its box.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn
from torchvision.ops import box_convert

from ..classes import panoptic_classes
from .criterion import SetCriterion, number_of_targets
from .mask_head import MaskHeadSmallConv, MaskQueries
from .matcher import Matches, Targets
from .precision import at_least_float32
from .pyramid import normalised_conv, points_of
from .registries import MASK_HEAD_REGISTRY

_ENLARGED = 1.2  # times the predicted box: the window
_OUTSIDE = 8.0  # how much lower logits are outside of the window


@MASK_HEAD_REGISTRY.register()
class RefinedMaskHead(MaskHeadSmallConv):
    """`MaskHeadSmallConv`, plus the log-odds of each query's class, plus windows for things."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        thing_classes: list[int],
        pyramid_channels: int,
        window_resolution: int,
        mask_stride: int,
        semantic_weight: float,
        **mask_head,
    ):
        """
        Args:
            num_classes: C.
            thing_classes: contiguous.
            pyramid_channels: p.
            window_resolution: R; a window has 2R x 2R logits, from features at R x R points.
            mask_stride: pixels of the network's input a logit at inference: 1, 2 or 4.
            semantic_weight: of the semantic map's loss.
            **mask_head: the arguments of `MaskHeadSmallConv`.
        """
        super().__init__(**mask_head)
        self.mask_stride, self.semantic_weight = mask_stride, semantic_weight
        self.semantic = nn.Sequential(
            normalised_conv(pyramid_channels, pyramid_channels),
            nn.Conv2d(pyramid_channels, num_classes, 1),
        )
        self.semantic_gain = nn.Parameter(torch.ones(2))  # of stuff, of things
        self.window = WindowHead(self.d_model, pyramid_channels, window_resolution)
        is_thing = torch.zeros(num_classes, dtype=torch.bool)
        is_thing[thing_classes] = True
        self.register_buffer("is_thing", is_thing, persistent=False)

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        detr = cfg.MODEL.DETR
        return {
            **super().from_config(cfg, backbone_shape),
            "num_classes": detr.NUM_CLASSES,
            "thing_classes": panoptic_classes(cfg).things,
            "pyramid_channels": detr.PYRAMID_CHANNELS,
            "window_resolution": detr.WINDOW_RESOLUTION,
            "mask_stride": detr.MASK_STRIDE,
            "semantic_weight": detr.SEMANTIC_WEIGHT,
        }

    def forward(self, projected, maps, counts, features, queries: MaskQueries) -> Tensor:
        """As `MaskHeadSmallConv.forward`, at `mask_stride`.

        Returns:
            (K, H / mask_stride, W / mask_stride), mask logits.
        """
        masks = self._masks(projected, maps, counts, features, queries)
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
            logits[things] += torch.where(inside, pasted, -_OUTSIDE)
        return logits

    def losses(
        self,
        arguments: tuple,
        targets: list[Targets],
        matches: Matches,
        criterion: SetCriterion,
        size,
    ) -> dict[str, Tensor]:
        """See `MaskHeadSmallConv.losses`. Masks of things are compared in their windows, those of
        stuff at H/4, and the semantic map at the image's size."""
        masks = self._masks(*arguments)
        queries: MaskQueries = arguments[-1]
        maps = pad_segment_maps(targets, queries.padded_size)
        starts = torch.tensor([0] + [len(t.labels) for t in targets]).cumsum(0).to(maps.device)
        # t + 1, as it is in the segment map of its image.
        numbers = matches.targets[-1] - starts[matches.images] + 1

        things, stuff = masks.things, masks.stuff
        points = points_of(masks.windows, masks.window_logits.shape[-1])
        wanted = _nearest(maps, queries.images[things], points)
        wanted = (wanted == numbers[things, None]).view_as(masks.window_logits)
        logits = sample(masks.coarse[things], masks.windows, masks.window_logits.shape[-1], 4)
        logits = at_least_float32(logits + masks.window_logits)
        parts = [criterion.mask_losses_at(logits, wanted.to(logits.dtype), window=True)]

        h, w = masks.coarse.shape[-2:]
        y, x = (
            ((torch.arange(n, device=maps.device) + 0.5) * (side / n)).long()
            for n, side in zip((h, w), queries.padded_size)
        )
        small = maps[:, y[:, None], x]
        wanted = small[queries.images[stuff]] == numbers[stuff, None, None]
        logits = at_least_float32(masks.coarse[stuff])
        parts.append(criterion.mask_losses_at(logits, wanted.to(logits.dtype), window=False))

        number = number_of_targets(targets, maps.device)
        losses = {name: (parts[0][name] + parts[1][name]) / number for name in parts[0]}
        losses["loss_semantic"] = self.semantic_weight * cross_entropy_of_shares(
            at_least_float32(masks.semantic),
            shares_of_classes(classes_of(maps, targets), masks.semantic),
        )
        return losses

    def _masks(self, projected, maps, counts, features, queries: MaskQueries) -> "_Masks":
        coarse = super().forward(projected, maps, counts, features, queries)
        semantic = self.semantic(queries.decoded.levels.maps[-1])
        thing = queries.probabilities[:, self.is_thing].sum(1) > 0.5
        gain = self.semantic_gain[thing.long()]
        odds = log_odds(semantic)
        of_queries = torch.cat(
            [
                torch.einsum("kc,chw->khw", p, o)
                for p, o in zip(queries.probabilities.to(odds.dtype).split(counts), odds)
            ]
        )
        coarse = coarse + gain[:, None, None] * of_queries
        things = thing.nonzero()[:, 0]
        images = queries.images[things]
        boxes = queries.boxes[things]
        windows = torch.cat((boxes[:, :2], boxes[:, 2:] * _ENLARGED), 1)
        windows = box_convert(windows, "cxcywh", "xyxy") * queries.sizes[images].repeat(1, 2)
        window_logits = self.window(
            queries.decoded.levels, windows, images, queries.embeddings[things]
        )
        stuff = (~thing).nonzero()[:, 0]
        return _Masks(coarse, semantic, things, stuff, windows, window_logits)


@dataclass(frozen=True)
class _Masks:
    """
    Attributes:
        coarse: (K, H/4, W/4).
        semantic: (B, C, H/4, W/4).
        things, stuff: int64, which of the K queries.
        windows: (T, 4), (x0, y0, x1, y1) of things, pixels.
        window_logits: (T, 2R, 2R), added in the windows.
    """

    coarse: Tensor
    semantic: Tensor
    things: Tensor
    stuff: Tensor
    windows: Tensor
    window_logits: Tensor


class WindowHead(nn.Module):
    """Corrections of a thing's mask in the frame of its box, which begin at zero.

    Features at R x R points of the window, the query's embedding added, two 3x3 convolutions and
    a third that gives four logits a point (sub-pixel convolution, Shi et al., arXiv:1609.05158).
    """

    def __init__(self, d_model: int, channels: int, resolution: int):
        super().__init__()
        self.resolution = resolution
        self.of_query = nn.Linear(d_model, channels)
        self.convs = nn.Sequential(
            normalised_conv(channels, channels), normalised_conv(channels, channels)
        )
        self.out = nn.Conv2d(channels, 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, levels, windows: Tensor, images: Tensor, embeddings: Tensor) -> Tensor:
        """(T, 4), (T,), (T, d) -> (T, 2R, 2R)."""
        x = levels.regions(windows, images, self.resolution)
        x = x + self.of_query(embeddings)[:, None, None]
        return F.pixel_shuffle(self.out(self.convs(x.permute(0, 3, 1, 2))), 2)[:, 0]


def log_odds(semantic: Tensor) -> Tensor:
    """(B, C, h, w) logits over classes -> log p - log(1 - p) of each, within 9.2."""
    p = at_least_float32(semantic).softmax(1)
    return (p + 1e-4).log() - (1 - p + 1e-4).log()


def hat(places: Tensor, length: int) -> Tensor:
    """(..., P) places in cells, from the middle of the first -> (..., P, length): the weights of
    linear interpolation between `length` values; beyond the ends, the last one's."""
    cells = torch.arange(length, device=places.device, dtype=places.dtype)
    return (1 - (places.clamp(0, length - 1)[..., None] - cells).abs()).clamp(min=0)


def sample(maps: Tensor, windows: Tensor, resolution: int, stride: int) -> Tensor:
    """(T, h, w) -> (T, R, R), bilinear at R x R points of the windows (T, 4) in pixels.

    Bilinear interpolation on a grid is two products of matrices, one an axis.
    """
    along = (torch.arange(resolution, device=maps.device, dtype=windows.dtype) + 0.5) / resolution
    corner, size = windows[:, :2], windows[:, 2:] - windows[:, :2]
    x, y = ((corner + along[:, None, None] * size) / stride - 0.5).permute(2, 1, 0)
    rows, columns = hat(y, maps.shape[1]), hat(x, maps.shape[2])
    return rows.to(maps.dtype) @ maps @ columns.to(maps.dtype).transpose(1, 2)


def paste(values: Tensor, windows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse way: (T, R, R) values of windows at the columns x (W',) and rows y (H',), pixels.

    Returns:
        (T, H', W'), bilinear, and (T, H', W') bool, True inside of the window.
    """
    resolution = values.shape[-1]
    inside, weights = [], []
    for places, low, high in ((y, windows[:, 1], windows[:, 3]), (x, windows[:, 0], windows[:, 2])):
        low, high = low[:, None], high[:, None]
        inside.append((low <= places) & (places < high))
        within = (places - low) / (high - low) * resolution - 0.5
        weights.append(hat(within, resolution).to(values.dtype))
    pasted = weights[0] @ values @ weights[1].transpose(1, 2)
    return pasted, inside[0][:, :, None] & inside[1][:, None, :]


def pad_segment_maps(targets: list[Targets], size: tuple[int, int]) -> Tensor:
    """(B, H, W) int64, t + 1 at segment t of an image, 0 at VOID and in the padding."""
    maps = [
        F.pad(
            t.segment_map.long(),
            (0, size[1] - t.segment_map.shape[1], 0, size[0] - t.segment_map.shape[0]),
        )
        for t in targets
    ]
    return torch.stack(maps)


def classes_of(maps: Tensor, targets: list[Targets]) -> Tensor:
    """(B, H, W) segments, as `pad_segment_maps` gives them -> their classes, -1 at VOID."""
    classes = [torch.cat((t.labels.new_tensor([-1]), t.labels))[m] for m, t in zip(maps, targets)]
    return torch.stack(classes)


def shares_of_classes(classes: Tensor, cells: Tensor) -> Tensor:
    """How many pixels of each class are in each cell.

    Args:
        classes: (B, H, W) int64, -1 at VOID.
        cells: (B, C, h, w), a pixel belongs to the cell that its centre is in.

    Returns:
        (B, h, w, C), in the dtype of `cells`.
    """
    batch, number, h, w = cells.shape
    (height, width), device = classes.shape[1:], classes.device
    row = torch.arange(height, device=device) * h // height
    column = torch.arange(width, device=device) * w // width
    first = (torch.arange(batch, device=device)[:, None, None] * h + row[:, None]) * w + column
    places = (first * number + classes)[classes >= 0]
    counts = places.bincount(minlength=batch * h * w * number)
    return counts.view(batch, h, w, number).to(cells.dtype)


def cross_entropy_of_shares(logits: Tensor, shares: Tensor) -> Tensor:
    """The mean over pixels of the cross-entropy, all pixels of a cell having its logits.

    Args:
        logits: (B, C, h, w).
        shares: (B, h, w, C), pixels of each class.
    """
    log_probability = logits.permute(0, 2, 3, 1).log_softmax(-1)
    return -(shares * log_probability).sum() / shares.sum().clamp(min=1)


def _nearest(maps: Tensor, images: Tensor, points: Tensor) -> Tensor:
    """(B, H, W) at (T, P, 2) points (x, y) of the images (T,) -> (T, P); beyond the border, 0."""
    x, y = points.floor().long().unbind(-1)
    h, w = maps.shape[-2:]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    found = maps[images[:, None], y.clamp(0, h - 1), x.clamp(0, w - 1)]
    return found * inside
