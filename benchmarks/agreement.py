"""How far two results lie apart."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def differing_pixels(panoptic: tuple, other: tuple) -> float:
    """Pixels in 10,000 that two panoptic results give to different segments.

    Segments of one class are paired so that they share the most pixels: ids may differ.

    Args:
        panoptic, other: (map (H, W), segments_info), 0 = VOID.
    """
    tables = [_index_and_classes(*x) for x in (panoptic, other)]
    (index, classes), (other_index, other_classes) = tables
    shared = np.zeros((len(classes), len(other_classes)))
    np.add.at(shared, (index.ravel(), other_index.ravel()), 1)
    shared[classes[:, None] != other_classes] = 0
    return 10_000 * (1 - shared[linear_sum_assignment(-shared)].sum() / index.size)


def _index_and_classes(panoptic_seg: Tensor, segments_info: list[dict]) -> tuple:
    """(H, W) places in a list of classes, which starts with -1 for VOID."""
    ids = np.array([0] + [info["id"] for info in segments_info])
    classes = np.array([-1] + [info["category_id"] for info in segments_info])
    return np.searchsorted(ids, panoptic_seg.cpu().numpy()), classes


def instances_apart(instances, other) -> float:
    """The largest difference of a box coordinate, in pixels; NaN where their numbers differ.

    In half precision a query may change from a thing to stuff, which are no instances.
    """
    boxes = [x.pred_boxes.tensor.double().cpu() for x in (instances, other)]
    if len(boxes[0]) != len(boxes[1]):
        return float("nan")
    return float((boxes[0] - boxes[1]).abs().max())


def gradients_apart(gradients: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients, relative to the norm of the second."""
    difference = sum(float((gradients[n] - g).double().square().sum()) for n, g in other.items())
    norm = sum(float(g.double().square().sum()) for g in other.values())
    return (difference / norm) ** 0.5


def gradients_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copies by name, of the parameters that have gradients."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
