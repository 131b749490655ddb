"""The dense head: a class and a box for every cell of the pyramid, of which the best are proposed.

Learned queries must find out first what they are for, which takes hundreds of thousands of
images. Cells of a map are where a thing is from the start, and each thing trains several of them
(FCOS, Tian et al., arXiv:1904.01355).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from .boxes import generalized_iou
from .computing import at_least_float32
from .pyramid import Levels, flatten, normalised_conv

_COMPARED = 200  # of an image, the best cells among which near duplicates are looked for


@dataclass(frozen=True)
class Cells:
    """What the dense head says of the A cells of the pyramid.

    Attributes:
        features: (B, A, p), what it was said from.
        logits: (B, A, T), of the thing classes, each for itself (sigmoid).
        boxes: (B, A, 4), (x0, y0, x1, y1), pixels.
        inside: (B, A) bool, False in the padding.
        levels: the pyramid.
    """

    features: Tensor
    logits: Tensor
    boxes: Tensor
    inside: Tensor
    levels: Levels


class DenseHead(nn.Module):
    """One 3x3 convolution, shared by the levels, then a linear layer each for class and box."""

    def __init__(self, *, channels: int, num_things: int, prior: float = 0.02):
        """
        Args:
            channels: p, of the pyramid.
            num_things: T, thing classes.
            prior: the probability that every class begins with.
        """
        super().__init__()
        self.tower = normalised_conv(channels, channels)
        self.class_logits = nn.Linear(channels, num_things)
        self.sides = nn.Linear(channels, 4)
        for linear in (self.class_logits, self.sides):
            nn.init.normal_(linear.weight, std=0.01)
        nn.init.constant_(self.class_logits.bias, -math.log(1 / prior - 1))
        nn.init.ones_(self.sides.bias)  # e strides from the centre to each side

    def forward(self, levels: Levels, sizes: Tensor) -> Cells:
        """
        Args:
            sizes: (B, 2), width and height of the images without padding, pixels.
        """
        features = flatten(tuple(self.tower(level) for level in levels.maps))
        centres, strides = levels.centres, levels.stride_of_cell[:, None]
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.sides.weight.dtype)
            logits = at_least_float32(self.class_logits(features))
            # From the centre to the four sides; e^5 strides are 600 pixels and more.
            sides = at_least_float32(self.sides(features)).clamp(max=5).exp() * strides
        boxes = torch.cat((centres - sides[..., :2], centres + sides[..., 2:]), -1)
        inside = (centres < sizes[:, None]).all(-1)
        return Cells(features, logits, boxes, inside, levels)


@torch.no_grad()
def propose(cells: Cells, number: int, nms_threshold: float) -> Tensor:
    """The cells with the best scores, those first that no better one overlaps.

    Args:
        number: N, of an image.
        nms_threshold: the IoU from which on two boxes are taken for one.

    Returns:
        (B, min(N, A)) int64, the numbers of the cells.
    """
    # A column beside the classes, of which there may be none.
    scores = F.pad(cells.logits, (0, 1), value=float("-inf")).amax(-1)
    scores = scores.masked_fill(~cells.inside, float("-inf"))
    batch, number = len(scores), min(number, scores.shape[1])
    scores, best = scores.topk(min(max(number, _COMPARED), scores.shape[1]))
    boxes = cells.boxes.gather(1, best[..., None].expand(-1, -1, 4))
    images = torch.arange(batch, device=best.device)[:, None].expand_as(best)
    # Images are kept apart by moving their boxes, which must not be negative for it.
    boxes, scores = (boxes - boxes.amin()).flatten(0, 1), scores.flatten()
    kept = batched_nms(boxes, scores, images.flatten(), nms_threshold)
    later = torch.ones_like(best.flatten(), dtype=torch.uint8)
    later[kept] = 0
    later[scores.isneginf()] = 2
    order = later.view_as(best).argsort(dim=1, stable=True)[:, :number]
    return best.gather(1, order)


@torch.no_grad()
def nearest_cells(cells: Cells, boxes: Tensor, sizes: Tensor) -> Tensor:
    """The cells whose own boxes are nearest, by GIoU, to boxes that are known.

    Args:
        boxes: (B, T, 4), relative (cx, cy, w, h).
        sizes: (B, 2), width and height of the images without padding, pixels.

    Returns:
        (B, T) int64, the numbers of the cells.
    """
    own = box_convert(cells.boxes / sizes[:, None].repeat(1, 1, 2), "xyxy", "cxcywh")
    nearness = generalized_iou(boxes[:, :, None], own[:, None])
    return nearness.masked_fill(~cells.inside[:, None], float("-inf")).argmax(-1)
