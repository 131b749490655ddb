"""An exported model in onnxruntime, called as `detr_d2.engine.Predictor` is."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from ..requirements import require

METADATA_KEY = "detr_d2"  # of the ONNX file


@dataclass(frozen=True)
class Instances:
    """What is found in one image, with the names of Detectron2's `Instances`.

    Attributes:
        image_size: (height, width).
        pred_boxes: (n, 4) float32, (x0, y0, x1, y1), pixels.
        scores: (n,) float32.
        pred_classes: (n,) int64.
    """

    image_size: tuple[int, ...]
    pred_boxes: np.ndarray
    scores: np.ndarray
    pred_classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class OnnxPredictor:
    """A model that `detr-d2 export --format onnx` has written.

    Example:
        predictor = OnnxPredictor("model.onnx")
        panoptic_seg, segments_info = predictor(cv2.imread("street.jpg"))["panoptic_seg"]
        name = predictor.class_names[segments_info[0]["category_id"]]

    Attributes:
        metadata: what the file says of the model: `classes` (of each `name`, `color`, `isthing`),
            `input_format`, `min_size` and `max_size` (pixels), `pixel_mean`, `pixel_std`,
            `batch_size`, `dtype`, `size` ([height, width], null where any is taken).
    """

    def __init__(
        self,
        path: str | os.PathLike,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        num_threads: int = 0,
    ):
        """
        Args:
            providers: of onnxruntime, which of them comes first.
            num_threads: 0 leaves it to onnxruntime.
        """
        require("onnxruntime", "detr_d2.deploy")
        import onnxruntime

        path = os.fspath(path)
        if not os.path.isfile(path):
            raise UserError(f"{path} does not exist: write it with `detr-d2 export`.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self.session = onnxruntime.InferenceSession(path, options, providers=list(providers))
        recorded = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if recorded is None:
            raise UserError(
                f"{path} does not say what its classes are: give a file that `detr-d2 export` has "
                "written."
            )
        self.metadata: dict[str, Any] = json.loads(recorded)

    @property
    def class_names(self) -> list[str]:
        """By contiguous class."""
        return [c["name"] for c in self.metadata["classes"]]

    def __call__(self, images: np.ndarray | list[np.ndarray]) -> dict | list[dict]:
        """
        Args:
            images: one image, or several: (height, width, 3) uint8, BGR.

        Returns:
            Of one image a dict, of a list a list: "instances", and of a panoptic model
            "panoptic_seg": the map (height, width) int32, ids from 1 and 0 = VOID, and
            `segments_info`, as of `Predictor`.
        """
        if isinstance(images, np.ndarray):
            return self._of_list([images])[0]
        return self._of_list(images)

    def _of_list(self, images: list[np.ndarray]) -> list[dict]:
        of_size = defaultdict(list)
        for index, image in enumerate(images):
            self._check(image)
            of_size[image.shape].append(index)
        results: list[dict] = [{} for _ in images]
        batch_size = self.metadata["batch_size"]
        for indices in of_size.values():
            for first in range(0, len(indices), batch_size):
                some = indices[first : first + batch_size]
                filled = some + [some[-1]] * (batch_size - len(some))
                outputs = self.run(self._batch([images[index] for index in filled]))
                size = images[some[0]].shape[:2]
                for index, result in zip(some, results_of(outputs, self.metadata["classes"], size)):
                    results[index] = result
        return results

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """What the file gives, by name.

        Args:
            batch: (B, 3, H, W) of the dtype and with the channels that the metadata names.
        """
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {"image": batch})))

    def _check(self, image: np.ndarray) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(
                f"An image is {image.dtype} {image.shape}: give (height, width, 3) uint8, BGR."
            )
        size = self.metadata["size"]
        if size is not None and list(image.shape[:2]) != size:
            raise UserError(
                f"An image is {image.shape[1]} x {image.shape[0]} pixels, and the model was "
                f"exported for {size[1]} x {size[0]} alone: resize it, or export it without --size."
            )

    def _batch(self, images: list[np.ndarray]) -> np.ndarray:
        step = -1 if self.metadata["input_format"] == "RGB" else 1
        channels_first = [image[:, :, ::step].transpose(2, 0, 1) for image in images]
        return np.stack(channels_first).astype(self.metadata["dtype"])


def results_of(
    outputs: dict[str, np.ndarray], classes: list[dict], image_size: tuple[int, ...]
) -> list[dict]:
    """What an exported model gives for (B, 3, H, W), by name -> what `OnnxPredictor` gives for each
    of the B images."""
    return [
        _result_of({name: values[b] for name, values in outputs.items()}, classes, image_size)
        for b in range(len(outputs["boxes"]))
    ]


def _result_of(fields: dict[str, np.ndarray], classes: list[dict], image_size) -> dict:
    rows = fields["is_instance"]
    found = (fields[name][rows] for name in ("boxes", "scores", "classes"))
    result: dict[str, Any] = {"instances": Instances(image_size, *found)}
    if "panoptic_seg" in fields:
        columns = ("segment_classes", "segment_scores", "segment_areas")
        segments_info = [
            {
                "id": number,
                "category_id": label,
                "isthing": classes[label]["isthing"],
                "score": score,
                "area": area,
            }
            for number, (label, score, area) in enumerate(
                zip(*(fields[name].tolist() for name in columns)), 1
            )
            if label >= 0
        ]
        result["panoptic_seg"] = fields["panoptic_seg"], segments_info
    return result
