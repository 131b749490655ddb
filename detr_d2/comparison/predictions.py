"""What the evaluator has left of a candidate's panoptic results: the report is drawn from it."""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import Metadata

from ..data.files import join_inside, read_json
from ..data.panoptic_map import read_panoptic_png

PanopticMap = tuple[np.ndarray, list[dict]]
"""(H, W) ids with 0 = VOID, and `id`, `category_id` (contiguous) and `isthing` of each."""


class SavedPredictions:
    """`predictions.json` and `panoptic/` of a `PanopticEvaluator`, one image at a time."""

    def __init__(self, folder: Path, metadata: Metadata):
        """
        Args:
            folder: the evaluator's `output_dir`.
            metadata: of its dataset.
        """
        self._folder = folder
        things = metadata.thing_dataset_id_to_contiguous_id
        stuff = metadata.stuff_dataset_id_to_contiguous_id
        self._class_of_id = {**things, **stuff}
        self._things = set(things)
        content = read_json(folder / "predictions.json")
        self._annotation_of = {a["image_id"]: a for a in content["annotations"]}

    def __getitem__(self, image_id: int | str) -> PanopticMap:
        annotation = self._annotation_of[image_id]
        infos = [
            {
                "id": info["id"],
                "category_id": self._class_of_id[info["category_id"]],
                "isthing": info["category_id"] in self._things,
            }
            for info in annotation["segments_info"]
        ]
        path = join_inside(self._folder / "panoptic", annotation["file_name"], str(self._folder))
        return read_panoptic_png(path).astype(np.int32), infos


def as_tensor(panoptic: PanopticMap) -> tuple[torch.Tensor, list[dict]]:
    """For drawing."""
    return torch.from_numpy(panoptic[0]), panoptic[1]
