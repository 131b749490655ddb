"""Predictions beside the ground truth in TensorBoard, at every evaluation of a training."""

import numpy as np
from detectron2.data import Metadata
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import get_event_storage

from ..drawing import draw_prediction, side_by_side
from .sources import ImageSource

_SAMPLES = 4  # of each dataset; always the same images, so that they can be followed


class SamplePictures(DatasetEvaluator):
    """Sends pictures of the first images to the event storage, and gives no metric.

    It is an evaluator because evaluators are handed the model's outputs: nothing runs twice.
    """

    def __init__(self, dataset_name: str, metadata: Metadata, score_threshold: float):
        """
        Args:
            dataset_name: the pictures stand under it in TensorBoard.
            score_threshold: boxes that score below it are not drawn.
        """
        self._dataset_name = dataset_name
        self._metadata = metadata
        self._score_threshold = score_threshold
        self.reset()

    def reset(self) -> None:
        """Begin with the first picture again."""
        self._drawn = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: the dicts of the test loader, with `file_name`, `image_id` and, where there is
                panoptic ground truth, `pan_seg_file_name` and `segments_info`.
            outputs: what the model gave for them.
        """
        for input_, output in zip(inputs, outputs):
            if self._drawn == _SAMPLES:
                return
            name = f"{self._dataset_name}/{input_['image_id']}"
            get_event_storage().put_image(name, self._picture(input_, output))
            self._drawn += 1

    def _picture(self, input_: dict, output: dict) -> np.ndarray:
        """(3, H, W) uint8: image, ground truth and prediction side by side."""
        truth = input_ if "pan_seg_file_name" in input_ else None
        source = ImageSource(input_["file_name"], str(input_["image_id"]), truth)
        image = source.read()
        pictures = [(f"image {source.name}", image), *source.ground_truth(image, self._metadata)]
        pictures += draw_prediction(image, output, self._metadata, self._score_threshold)
        return np.asarray(side_by_side(pictures)).transpose(2, 0, 1)
