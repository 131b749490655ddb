"""The panoptic results of all candidates side by side, beside the ground truth."""

from itertools import combinations

import numpy as np
from detectron2.data import Metadata
from tqdm import tqdm

from ..drawing import draw_panoptic, side_by_side
from ..engine.sources import ImageSource
from .disagreement import disagreement
from .predictions import SavedPredictions, as_tensor
from .report import Picture, photograph


def disagreements(
    sources: list[ImageSource], predictions: dict[str, SavedPredictions]
) -> list[float]:
    """For each image the mean of `disagreement` over all pairs of candidates."""
    found = []
    for source in tqdm(sources, "Comparing predictions"):
        image_id = source.dataset_dict["image_id"]
        maps = [of_candidate[image_id] for of_candidate in predictions.values()]
        found.append(float(np.mean([disagreement(a, b) for a, b in combinations(maps, 2)])))
    return found


def gallery(
    prefix: str,
    sources: list[ImageSource],
    predictions: dict[str, SavedPredictions],
    metadata: Metadata,
    captions: list[str],
) -> list[Picture]:
    """
    Args:
        prefix: of the pictures' names.
        captions: of `sources`.
    """
    pictures = []
    for number, (source, caption) in enumerate(zip(sources, captions), 1):
        image = source.read()
        row = [(source.name, image), *source.ground_truth(image, metadata)]
        for name, of_candidate in predictions.items():
            panoptic_seg, infos = as_tensor(of_candidate[source.of_dataset["image_id"]])
            row.append((name, draw_panoptic(image, panoptic_seg, infos, metadata)))
        pictures.append(photograph(f"{prefix}_{number:02d}", caption, side_by_side(row)))
    return pictures
