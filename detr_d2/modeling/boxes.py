"""Box formats: (cx, cy, w, h) relative to the image inside DETR, (x0, y0, x1, y1) outside."""

import torch
from torch import Tensor
from torchvision.ops import box_convert


def relative_cxcywh(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(T, 4) absolute (x0, y0, x1, y1), pixels -> (cx, cy, w, h) in 0..1 of (height, width)."""
    return box_convert(boxes, "xyxy", "cxcywh") / _scale(boxes, image_size)


def absolute_xyxy(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(N, 4) (cx, cy, w, h) in 0..1 -> (x0, y0, x1, y1) in pixels of (height, width)."""
    return box_convert(boxes, "cxcywh", "xyxy") * _scale(boxes, image_size)


def _scale(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
