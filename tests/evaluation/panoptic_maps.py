"""Panoptic maps and predictions for the tests of their evaluation."""

import json
from pathlib import Path

import numpy as np
from panoptic_png import id2rgb
from PIL import Image

CATEGORIES = [
    {"id": 3, "name": "car", "isthing": 1},
    {"id": 5, "name": "cat", "isthing": 1},
    {"id": 8, "name": "zebra", "isthing": 1},  # of which there is never one
    {"id": 9, "name": "road", "isthing": 0},
    {"id": 300, "name": "sky", "isthing": 0},
]
_SEEN = [3, 5, 9, 300]


def random_pair(rng: np.random.Generator, height: int, width: int) -> tuple:
    """A map of cells with VOID and crowds, and a prediction that is like it in most places.

    Returns:
        truth_map, truth_infos, found_map, found_infos: as `match_segments` takes them.
    """
    count = int(rng.integers(2, 14))
    centers = rng.uniform(size=(count, 2)) * (height, width)
    truth = _cells(centers, height, width)
    found = _cells(centers + rng.normal(0, height / 12, centers.shape), height, width)
    categories = rng.choice(_SEEN, count)
    other = rng.choice(_SEEN, count)
    guessed = np.where(rng.uniform(size=count) < 0.2, other, categories)
    truth_map, truth_infos = _annotate(rng, truth, categories)
    found_map, found_infos = _annotate(rng, found, guessed)
    for info in truth_infos:
        info["iscrowd"] = int(rng.uniform() < 0.2)
    return truth_map, truth_infos, found_map, found_infos


def write_files(
    folder: Path, pairs: list[tuple], name: str = "{}.png"
) -> tuple[str, str, str, str]:
    """Write pairs as COCO does; gives the two JSONs and the two folders, ground truth first."""
    paths = []
    for kind, place in (("truth", 0), ("found", 2)):
        annotations = []
        for image_id, pair in enumerate(pairs):
            file_name = name.format(image_id)
            path = folder / kind / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(id2rgb(pair[place])).save(path)
            infos = pair[place + 1]
            annotation = {"image_id": image_id, "file_name": file_name, "segments_info": infos}
            annotations.append(annotation)
        height, width = pairs[0][0].shape
        images = [
            {"id": i, "file_name": f"{i}.jpg", "height": height, "width": width}
            for i in range(len(pairs))
        ]
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / f"{kind}.json").write_text(json.dumps(content))
        paths.append((str(folder / f"{kind}.json"), str(folder / kind)))
    (truth_json, truth_root), (found_json, found_root) = paths
    return truth_json, found_json, truth_root, found_root


def _cells(centers: np.ndarray, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2).argmin(-1)


def _annotate(rng: np.random.Generator, cells: np.ndarray, categories: np.ndarray) -> tuple:
    """Random ids, about every eighth of which is VOID."""
    ids = rng.choice(np.arange(1, 2**24), len(categories), replace=False)
    ids[rng.uniform(size=len(ids)) < 0.12] = 0
    infos = [
        {
            "id": int(ids[cell]),
            "category_id": int(categories[cell]),
            "area": int((cells == cell).sum()),
        }
        for cell in np.unique(cells)
        if ids[cell]
    ]
    return ids[cells], infos
