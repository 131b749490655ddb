"""Hits, misses and false alarms as a picture, each segment with its number."""

import numpy as np
from PIL import Image, ImageDraw

from ..drawing import borders, place_inside, write_label
from .figure import Figure
from .ground_truth import Verdict
from .pictures import resized, resized_numbers, size_of_width

_WIDTH = 320  # pixels, of a panel
_FONT_SIZE = 22  # large, since a page shows the panels smaller
_COLORS = {
    "hit": (26, 150, 65),
    "miss": (215, 48, 39),
    "false alarm": (215, 48, 39),
    "ignored": (120, 120, 120),
}


def verdict_figure(
    truth_map: np.ndarray, predicted: np.ndarray, found: list[Verdict], photograph: np.ndarray
) -> Figure:
    """The ground truth and the result over the photograph, in the colours of the verdicts.

    Args:
        truth_map: (H', W') integer, t + 1 at segment t, 0 at VOID.
        predicted: (H', W') integer, the ids of the panoptic map, 0 at VOID.
        photograph: (H', W', 3) uint8.
    """
    of_truth = {v.segment + 1: v.verdict for v in found if v.segment is not None}
    of_result = {v.predicted_id: v.verdict for v in found if v.predicted_id is not None}
    size = size_of_width(photograph.shape[:2], _WIDTH)
    gray = resized(photograph, size).mean(2, keepdims=True)
    panels = [
        _panel(resized_numbers(truth_map, size), of_truth, gray),
        _panel(resized_numbers(predicted, size), of_result, gray),
    ]
    labels = [
        "ground truth, with the number of each segment",
        "result, with the id of each segment",
    ]
    return Figure("ground_truth", labels, panels)


def _panel(numbers: np.ndarray, verdict_of: dict[int, str], gray: np.ndarray) -> np.ndarray:
    colors = np.zeros((numbers.max() + 1, 3))
    present = [number for number in verdict_of if (numbers == number).any()]
    for number in present:
        colors[number] = _COLORS[verdict_of[number]]
    laid = (0.55 * colors[numbers] + 0.45 * gray).astype(np.uint8)
    laid[borders(numbers)] = 255
    picture = Image.fromarray(laid)
    pen = ImageDraw.Draw(picture)
    for number in present:
        write_label(pen, place_inside(numbers == number), str(number), "mm", _FONT_SIZE)
    return np.asarray(picture)
