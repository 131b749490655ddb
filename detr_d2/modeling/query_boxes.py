"""Queries that are boxes: how a box is corrected, jittered for training, and told to attention."""

import math

import torch
from torch import Tensor

SMALLEST = 0.004  # of the image, sides of a box that a query begins with


def corrected(deltas: Tensor, boxes: Tensor) -> Tensor:
    """Boxes after a correction in their own frame, so that it means the same at every size.

    Args:
        deltas: (..., 4): half of it times the box's sides is added to the centre, and half of it
            to the logarithm of the sides.
        boxes: (..., 4), relative (cx, cy, w, h).
    """
    deltas = deltas.clamp(-3, 3) / 2
    centres = boxes[..., :2] + deltas[..., :2] * boxes[..., 2:]
    return torch.cat((centres, boxes[..., 2:] * deltas[..., 2:].exp()), -1).clamp(1e-4, 1)


def jittered(boxes: Tensor) -> Tensor:
    """(P, 4) relative (cx, cy, w, h) -> the same, moved by up to 0.3 of its sides, whose logarithm
    changes by up to 0.4."""
    noise = torch.rand_like(boxes) - 0.5
    centres = boxes[:, :2] + 0.6 * noise[:, :2] * boxes[:, 2:]
    sides = boxes[:, 2:] * (0.8 * noise[:, 2:]).exp()
    return torch.cat((centres, sides), 1).clamp(SMALLEST, 1)


def sine_of_boxes(boxes: Tensor, d_model: int) -> Tensor:
    """(..., 4) relative -> (..., d): sine and cosine of d / 8 frequencies, from half a period over
    the image to 32."""
    number = d_model // 8
    frequencies = 2 ** (torch.arange(number, device=boxes.device, dtype=boxes.dtype) * 6 / number)
    angles = boxes[..., None] * math.pi * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(-2)
