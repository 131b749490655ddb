"""Box formats: (cx, cy, w, h) relative to the image inside DETR, (x0, y0, x1, y1) outside."""

import torch
from torch import Tensor
from torchvision.ops import box_convert


def relative_cxcywh(boxes: Tensor, image_size: tuple[int, ...]) -> Tensor:
    """(T, 4) absolute (x0, y0, x1, y1), pixels -> (cx, cy, w, h) in 0..1 of (height, width)."""
    return box_convert(boxes, "xyxy", "cxcywh") / _scale(boxes, image_size)


def absolute_xyxy(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(N, 4) (cx, cy, w, h) in 0..1 -> (x0, y0, x1, y1) in pixels of (height, width)."""
    return box_convert(boxes, "cxcywh", "xyxy") * _scale(boxes, image_size)


def pixels_xyxy(boxes: Tensor, sizes: Tensor) -> Tensor:
    """As `absolute_xyxy`, of boxes of several images.

    Args:
        boxes: (..., 4), relative (cx, cy, w, h).
        sizes: (..., 2), width and height of the image of each box, pixels.
    """
    return box_convert(boxes, "cxcywh", "xyxy") * torch.cat((sizes, sizes), -1)


def enlarged(boxes: Tensor, factor: float) -> Tensor:
    """(..., 4) (cx, cy, w, h) with sides `factor` times as long."""
    return torch.cat((boxes[..., :2], boxes[..., 2:] * factor), -1)


def generalized_iou(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """GIoU of relative (cx, cy, w, h), (..., 4) and (..., 4), broadcast to (...). [DETR A.2]

    Two boxes without area have GIoU 0, not NaN. torchvision's own functions give NaN there, or
    add 1e-7 to areas that are themselves about 1e-3, which shows in the fourth digit.
    """
    a, b = (box_convert(x, "cxcywh", "xyxy") for x in (boxes, target_boxes))
    area_a, area_b = boxes[..., 2:].prod(-1), target_boxes[..., 2:].prod(-1)
    least = torch.finfo(boxes.dtype).tiny
    a0, a1, b0, b1 = a[..., :2], a[..., 2:], b[..., :2], b[..., 2:]
    overlap = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    union = (area_a + area_b - overlap).clamp(min=least)
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).prod(-1).clamp(min=least)
    return overlap / union - (hull - union) / hull


def _scale(boxes: Tensor, image_size: tuple[int, ...]) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
