"""Masks of things whose boxes are known: what is known of them goes into the mask head."""

import torch
from torch import Tensor

from .boxes import pixels_xyxy

_CERTAIN = 1e4  # the logit of the class that a thing is known to have


def logits_of_known(logits: Tensor, labels: Tensor) -> Tensor:
    """(T, C + 1) of the queries, (T,) classes -> (T, C + 1), certain of each class; as they were
    where it is -1."""
    certain = torch.zeros_like(logits)
    certain.scatter_(1, labels.clamp(min=0)[:, None], _CERTAIN)
    return torch.where((labels >= 0)[:, None], certain, logits)


def within_boxes(maps: Tensor, boxes: Tensor, size: Tensor, padded_size: tuple[int, int]) -> Tensor:
    """Attention maps that end with a box: the cells that it overlaps, whose sum is made 1 again.

    Args:
        maps: (T, M, h, w), the M maps of a query sum to 1 together.
        boxes: (T, 4), relative (cx, cy, w, h).
        size: (2,), width and height of the image without padding, pixels.
        padded_size: (H, W) of the batch, pixels, which the maps are of.
    """
    (H, W), (h, w) = padded_size, maps.shape[-2:]
    scale = maps.new_tensor([w / W, h / H] * 2)
    x0, y0, x1, y1 = (pixels_xyxy(boxes, size) * scale).unbind(1)  # cells
    column, row = (torch.arange(n, device=maps.device) for n in (w, h))
    across = (column + 1 > x0[:, None]) & (column < x1[:, None])
    down = (row + 1 > y0[:, None]) & (row < y1[:, None])
    kept = maps * (down[:, None, :, None] & across[:, None, None, :])
    total = kept.sum((1, 2, 3), keepdim=True)
    return kept / total.clamp(min=torch.finfo(kept.dtype).tiny)


def in_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """(T, 4) relative (cx, cy, w, h) -> (T, height, width) bool, the pixels whose centre is in the
    box; of a narrow one, those that it overlaps."""
    size = boxes.new_tensor([width, height])
    x0, y0, x1, y1 = pixels_xyxy(boxes, size).unbind(1)
    x, y = (torch.arange(n, device=boxes.device) for n in (width, height))
    across, down = (_along(places, *ends) for places, ends in ((x, (x0, x1)), (y, (y0, y1))))
    return down[:, :, None] & across[:, None]


def _along(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(P,) pixels, ends (T,) -> (T, P) bool."""
    low, high = low[:, None], high[:, None]
    inside = (pixels + 0.5 >= low) & (pixels + 0.5 <= high)
    overlapped = (pixels + 1 > low) & (pixels < high)
    return torch.where(inside.any(1, keepdim=True), inside, overlapped)
