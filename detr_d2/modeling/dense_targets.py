"""What the dense head is trained on: which cell is whose, and the losses. Training alone."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from .boxes import pixels_xyxy
from .counts import mean_over_parts
from .dense_head import Cells
from .losses import weighted_sum
from .matcher import Targets, weights_of
from .pyramid import Levels

_NEAR = 1.5  # strides from a thing's centre, within which cells are its own [FCOS]
_SMALLEST, _LARGEST = 2, 8  # strides, the size of the things that a level is for
_ALPHA, _GAMMA = 0.25, 2.0  # of focal loss [Lin et al., arXiv:1708.02002]
_WEIGHT = 2.0  # of both losses


@dataclass(frozen=True)
class Assignment:
    """P pairs of a cell and the thing that it is trained on, image by image.

    Attributes:
        images: (P,) int64.
        cells: (P,) int64, among the A cells of the image.
        targets: (P,) int64, segments, counted through the whole batch.
    """

    images: Tensor
    cells: Tensor
    targets: Tensor


@torch.no_grad()
def assign(levels: Levels, targets: list[Targets], is_thing: Tensor, sizes: Tensor) -> Assignment:
    """A thing's cells are those within 1.5 strides of its centre and inside of its box, on the
    levels for its size, one or two; at least the nearest one. A cell that several claim is the
    smallest one's.

    Args:
        is_thing: (C,) bool.
        sizes: (B, 2), width and height of the images without padding, pixels.
    """
    centres, strides = levels.centres, levels.stride_of_cell
    least = torch.where(strides == min(levels.strides), 0, _SMALLEST * strides)
    most = torch.where(strides == max(levels.strides), float("inf"), _LARGEST * strides)
    pairs, start = [], 0
    for image, target in enumerate(targets):
        things = is_thing[target.labels].nonzero()[:, 0]
        if len(things):
            boxes = target.boxes[things].to(centres.dtype) * sizes[image].repeat(2)
            cells, rows = _claimed(centres, strides, least, most, boxes, sizes[image])
            pairs.append((torch.full_like(cells, image), cells, things[rows] + start))
        start += len(target.labels)
    if not pairs:
        return Assignment(*torch.zeros(3, 0, dtype=torch.int64, device=centres.device))
    return Assignment(*(torch.cat(column) for column in zip(*pairs)))


def _claimed(centres, strides, least, most, boxes, image_size) -> tuple[Tensor, Tensor]:
    """Cells, and the row of `boxes` (T, 4), (cx, cy, w, h) in pixels, that each one belongs to."""
    middle, size = boxes[:, None, :2], boxes[:, None, 2:]
    extent, area = size.prod(-1).sqrt(), size.prod(-1)
    apart = (centres - middle).abs()
    right_level = (least <= extent) & (extent < most) & (centres < image_size).all(-1)
    near = (apart < _NEAR * strides[:, None]).all(-1) & (apart <= size / 2).all(-1) & right_level
    nearest = apart.square().sum(-1).masked_fill(~right_level, float("inf")).argmin(1)
    near[torch.arange(len(boxes), device=boxes.device), nearest] = True
    smallest, row = torch.where(near, area, float("inf")).min(0)
    cells = smallest.isfinite().nonzero()[:, 0]
    return cells, row[cells]


def dense_losses(
    cells: Cells, assignment: Assignment, targets: list[Targets], number_of_thing: Tensor, sizes
) -> dict[str, Tensor]:
    """Focal loss of the classes (arXiv:1708.02002) and GIoU loss of the boxes, a positive cell.

    A cell has the weight of its thing, and 1 where it has none.

    Args:
        number_of_thing: (C,) int64, the place of a class among the thing classes.
        sizes: (B, 2), width and height of the images without padding, pixels.
    """
    labels = torch.cat([t.labels for t in targets])[assignment.targets]
    boxes = torch.cat([t.boxes for t in targets])[assignment.targets]
    wanted = torch.zeros_like(cells.logits)
    wanted[assignment.images, assignment.cells, number_of_thing[labels]] = 1
    weights = weights_of(targets, assignment.targets)
    positives = mean_over_parts(weighted_sum(cells.logits.new_ones(len(labels)), weights))
    focal = sigmoid_focal_loss(cells.logits, wanted, alpha=_ALPHA, gamma=_GAMMA)
    focal = focal * cells.inside[..., None]
    if weights is not None:
        of_cells = torch.ones_like(focal[..., 0])
        of_cells[assignment.images, assignment.cells] = weights.to(focal.dtype)
        focal = focal * of_cells[..., None]
    found = cells.boxes[assignment.images, assignment.cells]
    boxes = pixels_xyxy(boxes.to(found.dtype), sizes[assignment.images])
    giou = weighted_sum(generalized_box_iou_loss(found, boxes), weights)
    return {
        "loss_dense_class": _WEIGHT * focal.sum() / positives,
        "loss_dense_giou": _WEIGHT * giou / positives,
    }
