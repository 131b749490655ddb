"""An exported file beside the model that it was made of, on pictures."""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..comparison.disagreement import disagreement
from ..deploy import Instances
from ..deploy.predictor import results_of
from ..engine import Predictor
from ..evaluation.panoptic_quality import shared_pixels
from .formats import Run


@dataclass(frozen=True)
class Allowed:
    """What may differ.

    Attributes:
        boxes: relative to the picture's sides.
        scores: of instances and of segments.
        pixels: one of so many.
        disagreement: 1 - PQ between the two panoptic maps.
    """

    boxes: float = math.inf
    scores: float = math.inf
    pixels: float = 0.0
    disagreement: float = math.inf


# By precision. Half precision and eight bits move scores and borders, and now and then a small
# segment: whole maps are compared then, and PQ on a dataset says what that costs.
ALLOWED = {
    "float32": Allowed(boxes=1e-4, scores=1e-5, pixels=10_000),
    "float16": Allowed(disagreement=0.1),
    "int8": Allowed(disagreement=0.2),
}
ROUNDING = 2.0  # times what float32 itself is off


@dataclass(frozen=True)
class Differences:
    """Between two results of one picture.

    Attributes:
        boxes: the largest difference, of sides of the picture; inf where the numbers of instances
            or their classes differ.
        scores: the largest difference; inf also where the classes of segments differ.
        pixels: that are of another segment.
        disagreement: 1 - PQ between the two panoptic maps.
    """

    boxes: float
    scores: float
    pixels: int = 0
    disagreement: float = 0.0


@dataclass(frozen=True)
class Compared:
    """One picture in both.

    Attributes:
        size: (height, width).
        number: of instances.
        segments: of the panoptic map; None where there is no map.
        found: the exported file beside the model.
        allowed: what may differ.
        exact: the file, and the model as it is, each beside the model in float64; None where that
            was not asked.
    """

    size: tuple[int, int]
    number: int
    segments: int | None
    found: Differences
    allowed: Allowed
    exact: tuple[Differences, Differences] | None = None

    @property
    def within(self) -> bool:
        """Whether it is within what is allowed."""
        return all(self._within.values())

    @property
    def rounding(self) -> bool:
        """Whether what is beyond that is as near to float64 as the model's is: rounding alone."""
        if self.exact is None:
            return False
        ours, theirs = self.exact
        return all(
            within or getattr(ours, name) <= ROUNDING * getattr(theirs, name)
            for name, within in self._within.items()
        )

    @property
    def _within(self) -> dict[str, bool]:
        """Of each of the `Differences`."""
        height, width = self.size
        found, allowed = self.found, self.allowed
        pixels = math.ceil(height * width / allowed.pixels) if allowed.pixels else math.inf
        return {
            "boxes": found.boxes <= allowed.boxes,
            "scores": found.scores <= allowed.scores,
            "pixels": found.pixels <= pixels,  # of a small picture, too, one
            "disagreement": found.disagreement <= allowed.disagreement,
        }

    @property
    def agrees(self) -> bool:
        """Whether the file may be kept."""
        return self.within or self.rounding


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
    Where float32 differs by more than is allowed, the model in float64 is asked which is right.

    Args:
        run: of the exported file.
        pictures: (height, width, 3) uint8, RGB. Batches are filled with what they look like turned
            around.
    """
    allowed, compared = ALLOWED[metadata["precision"]], []
    for picture in pictures:
        turned = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
        batch = [turned[i % 4] for i in range(metadata["batch_size"])]
        ordered = [p if metadata["input_format"] == "RGB" else p[:, :, ::-1] for p in batch]
        pixels = np.stack([p.transpose(2, 0, 1) for p in ordered])
        found = run(pixels.astype(metadata["dtype"]))
        results = results_of(found, metadata["classes"], picture.shape[:2])
        images = [p[:, :, ::-1] for p in batch]
        wanted = [_as_arrays(result) for result in predictor(images)]
        compared += [_compared(*pair, allowed) for pair in zip(results, wanted)]
        last = slice(len(compared) - len(batch), None)
        if metadata["precision"] == "float32" and not all(c.within for c in compared[last]):
            exact = [_as_arrays(result) for result in in_float64(predictor)(images)]
            compared[last] = [
                replace(c, exact=(differences(ours, right), differences(theirs, right)))
                for c, ours, theirs, right in zip(compared[last], results, wanted, exact)
            ]
    return compared


def in_float64(predictor: Predictor) -> Predictor:
    """The same model with numbers of twice the length."""
    doubled = copy.copy(predictor)
    doubled.model = copy.deepcopy(predictor.model).double()
    return doubled


def _as_arrays(result: dict) -> dict:
    """A result of `Predictor` as one of `OnnxPredictor`."""
    instances = result["instances"]
    fields = (instances.pred_boxes.tensor, instances.scores, instances.pred_classes)
    arrays = [values.numpy() for values in fields]
    found: dict[str, Any] = {"instances": Instances(instances.image_size, *arrays)}
    if "panoptic_seg" in result:
        panoptic_seg, segments_info = result["panoptic_seg"]
        found["panoptic_seg"] = panoptic_seg.numpy(), segments_info
    return found


def _compared(found: dict, wanted: dict, allowed: Allowed) -> Compared:
    instances = wanted["instances"]
    segments = len(wanted["panoptic_seg"][1]) if "panoptic_seg" in wanted else None
    different = differences(found, wanted)
    return Compared(instances.image_size, len(instances), segments, different, allowed)


def differences(one: dict, other: dict) -> Differences:
    """Between two results of one picture, as `OnnxPredictor` gives them."""
    ours, theirs = one["instances"], other["instances"]
    height, width = theirs.image_size
    sides = np.array([width, height, width, height], dtype=np.float32)
    boxes = scores = np.inf
    if np.array_equal(ours.pred_classes, theirs.pred_classes):
        boxes = _largest(ours.pred_boxes / sides, theirs.pred_boxes / sides)
        scores = _largest(ours.scores, theirs.scores)
    if "panoptic_seg" not in one:
        return Differences(boxes, scores)
    maps = one["panoptic_seg"], other["panoptic_seg"]
    (classes, more_classes), (of_segments, more_scores) = (
        [np.array([info[key] for info in infos]) for _, infos in maps]
        for key in ("category_id", "score")
    )
    equal = np.array_equal(classes, more_classes)
    scores = max(scores, _largest(of_segments, more_scores)) if equal else np.inf
    return Differences(boxes, scores, pixels_apart(*maps), disagreement(*maps))


def pixels_apart(one: tuple[np.ndarray, list[dict]], other: tuple[np.ndarray, list[dict]]) -> int:
    """How many pixels are of other segments, whatever their ids.

    Two segments are the same where they have one class and each shares most with the other.
    """
    ids, classes = (
        [[info[key] for info in infos] for _, infos in (one, other)]
        for key in ("id", "category_id")
    )
    shared, _ = shared_pixels((one[0], ids[0]), (other[0], ids[1]))
    alike = np.equal.outer([-1, *classes[0]], [-1, *classes[1]])  # VOID is as a class of its own
    of_class = np.where(alike, shared, 0)
    most = (of_class == of_class.max(1, keepdims=True)) & (of_class == of_class.max(0))
    return int(shared.sum() - of_class[most].sum())


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0))
