"""An exported file beside the model that it was made of, on pictures."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tabulate import tabulate

from ..deploy.predictor import results_of
from ..engine import Predictor
from .formats import Run

# What may differ: boxes, relative to the picture's sides; scores; and one pixel of so many.
BOXES, SCORES, PIXELS = 1e-4, 1e-5, 10_000


@dataclass(frozen=True)
class Compared:
    """One picture in both.

    Attributes:
        size: (height, width).
        number: of instances.
        boxes: the largest difference, of sides of the picture; inf where the numbers of instances
            or their classes differ.
        scores: the largest difference.
        segments: of the panoptic map; None where there is no map.
        pixels: that differ; inf where the segments differ.
    """

    size: tuple[int, int]
    number: int
    boxes: float
    scores: float
    segments: int | None
    pixels: float

    @property
    def agrees(self) -> bool:
        """Whether it is within what is allowed."""
        height, width = self.size
        pixels = math.ceil(height * width / PIXELS)  # of a small picture, too, one
        return self.boxes <= BOXES and self.scores <= SCORES and self.pixels <= pixels


def pictures_of(photographs: list[np.ndarray]) -> list[np.ndarray]:
    """A landscape, a portrait and a square, each of another size, (height, width, 3) uint8."""
    first, second, third = (photographs[i % len(photographs)] for i in range(3))
    landscape = first if first.shape[1] >= first.shape[0] else np.rot90(first)
    portrait = second if second.shape[0] > second.shape[1] else np.rot90(second)
    least = min(third.shape[:2])
    return [
        landscape[: landscape.shape[1] * 3 // 4],  # of a square, too
        _scaled(portrait[:, : portrait.shape[0] * 2 // 3], 3 / 4),
        _scaled(third[:least, :least], 7 / 8),
    ]


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3) uint8."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    return resized(picture, *(int(side * factor) for side in picture.shape[:2]))


def compare(
    predictor: Predictor, run: Run, metadata: dict, pictures: list[np.ndarray]
) -> list[Compared]:
    """
    Args:
        run: of the exported file.
        pictures: (height, width, 3) uint8, RGB. Batches are filled with what they look like turned
            around.
    """
    compared = []
    for picture in pictures:
        turned = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
        batch = [turned[i % 4] for i in range(metadata["batch_size"])]
        ordered = [p if metadata["input_format"] == "RGB" else p[:, :, ::-1] for p in batch]
        pixels = np.stack([p.transpose(2, 0, 1) for p in ordered])
        found = run(pixels.astype(metadata["dtype"]))
        results = results_of(found, metadata["classes"], picture.shape[:2])
        wanted = predictor([p[:, :, ::-1] for p in batch])
        compared += [_compared(*pair) for pair in zip(results, wanted)]
    return compared


def _compared(found: dict, wanted: dict) -> Compared:
    ours, theirs = found["instances"], wanted["instances"]
    height, width = theirs.image_size
    sides = np.array([width, height, width, height], dtype=np.float32)
    boxes = scores = np.inf
    if np.array_equal(ours.pred_classes, theirs.pred_classes.numpy()):
        boxes = _largest(ours.pred_boxes / sides, theirs.pred_boxes.tensor.numpy() / sides)
        scores = _largest(ours.scores, theirs.scores.numpy())
    segments, pixels = None, 0.0
    if "panoptic_seg" in wanted:
        (our_map, our_segments), (their_map, their_segments) = (
            result["panoptic_seg"] for result in (found, wanted)
        )
        segments, pixels = len(their_segments), np.inf
        if [s["category_id"] for s in our_segments] == [s["category_id"] for s in their_segments]:
            pixels = float(np.count_nonzero(our_map != their_map.numpy()))
            scores = max(scores, _largest(*(_scores(s) for s in (our_segments, their_segments))))
    return Compared((height, width), len(theirs), boxes, scores, segments, pixels)


def _scores(segments_info: list[dict]) -> np.ndarray:
    return np.array([segment["score"] for segment in segments_info])


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0))


def table_of(compared: list[Compared]) -> str:
    """In Markdown."""
    rows = [
        (
            f"{c.size[1]} x {c.size[0]}",
            c.number,
            f"{c.boxes:.1e}",
            f"{c.scores:.1e}",
            "-" if c.segments is None else c.segments,
            "-" if c.segments is None else f"{c.pixels:g}",
            "yes" if c.agrees else "NO",
        )
        for c in compared
    ]
    allowed = ("allowed", "", f"{BOXES:.0e}", f"{SCORES:.0e}", "", f"1 of {PIXELS:,}", "")
    heads = (
        "picture",
        "instances",
        "boxes, of its sides",
        "scores",
        "segments",
        "pixels",
        "agrees",
    )
    return tabulate([*rows, allowed], heads, tablefmt="github", disable_numparse=True)
