"""Panoptic results on disk, in COCO panoptic format: what the report is drawn from."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.evaluation import DatasetEvaluator
from panopticapi.utils import id2rgb
from PIL import Image

from ..data.panoptic_map import read_panoptic_png

Segments = tuple[np.ndarray, list[dict]]
"""(H, W) ids with 0 = VOID, and `id`, `category_id` (contiguous) and `isthing` of each."""


class PredictionWriter(DatasetEvaluator):
    """Writes the `panoptic_seg` of every image it sees, with the dataset's category ids."""

    def __init__(self, folder: Path, metadata: Metadata):
        self._folder = folder
        things = metadata.thing_dataset_id_to_contiguous_id
        stuff = metadata.stuff_dataset_id_to_contiguous_id
        self._id_of_class = {c: id_ for id_, c in {**things, **stuff}.items()}

    def reset(self) -> None:
        self._annotations = []
        self._folder.mkdir(parents=True, exist_ok=True)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for input_, output in zip(inputs, outputs):
            panoptic_seg, segments_info = output["panoptic_seg"]
            name = f"{len(self._annotations):06d}.png"
            Image.fromarray(id2rgb(panoptic_seg.cpu().numpy())).save(self._folder / name)
            infos = [
                {"id": info["id"], "category_id": self._id_of_class[info["category_id"]]}
                for info in segments_info
            ]
            self._annotations.append(
                {"image_id": input_["image_id"], "file_name": name, "segments_info": infos}
            )

    def evaluate(self) -> dict:
        content = json.dumps({"annotations": self._annotations})
        (self._folder / "predictions.json").write_text(content)
        return {}


class Predictions:
    """What a `PredictionWriter` has written, one image at a time."""

    def __init__(self, folder: Path, metadata: Metadata):
        self._folder = folder
        things = metadata.thing_dataset_id_to_contiguous_id
        stuff = metadata.stuff_dataset_id_to_contiguous_id
        self._class_of_id = {**things, **stuff}
        self._things = set(things)
        content = json.loads((folder / "predictions.json").read_text())
        self._annotation_of = {a["image_id"]: a for a in content["annotations"]}

    def __getitem__(self, image_id: int | str) -> Segments:
        annotation = self._annotation_of[image_id]
        infos = [
            {
                "id": info["id"],
                "category_id": self._class_of_id[info["category_id"]],
                "isthing": info["category_id"] in self._things,
            }
            for info in annotation["segments_info"]
        ]
        return read_panoptic_png(str(self._folder / annotation["file_name"])).astype("i4"), infos


def as_tensor(segments: Segments) -> tuple[torch.Tensor, list[dict]]:
    """For drawing."""
    return torch.from_numpy(segments[0]), segments[1]
