"""Datasets are looked for in a folder of the tests' own, never in the user's."""

import json
import os
import tempfile
from pathlib import Path

os.environ["DETECTRON2_DATASETS"] = tempfile.mkdtemp(prefix="detr_d2_tests_")

import numpy as np
import pytest
import torch
from panopticapi.utils import id2rgb
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def same_random_numbers():
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs with panoptic annotation, where they are at hand."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the real photographs are not here (../shared/data)")
    return PHOTOGRAPHS


@pytest.fixture(scope="session")
def shapes() -> Path:
    """A few shapes in the dataset folder of the tests: 12 for training, 6 for validation."""
    from detr_d2.data.registration import datasets_root
    from detr_d2.data.shapes import write_shapes

    folder = datasets_root() / "shapes_panoptic"
    write_shapes(folder, {"train": 12, "val": 6})
    return folder


@pytest.fixture
def tiny_dataset(tmp_path):
    """One 4x6 image with a thing (id 7, category 3), a stuff (id 300, category 9) and VOID.

    Gives the folder, and a function that writes the files again with changes.
    """

    def write(ids=None, image_size=None, **changes) -> dict:
        ids = TINY_IDS if ids is None else ids
        height, width = image_size or ids.shape
        annotation = {
            "image_id": 5,
            "file_name": "a.png",
            "segments_info": [
                {"id": 7, "category_id": 3, "iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2]},
                {"id": 300, "category_id": 9, "iscrowd": 0, "area": 10, "bbox": [0, 2, 6, 2]},
            ],
        }
        content = {
            "images": [{"id": 5, "file_name": "a.png", "height": height, "width": width}],
            "annotations": [annotation],
            "categories": [
                {"id": 9, "name": "road", "isthing": 0},
                {"id": 3, "name": "car", "isthing": 1},
            ],
            **changes,
        }
        for folder in ("images", "panoptic"):
            (tmp_path / folder).mkdir(exist_ok=True)
        pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
        Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
        Image.fromarray(id2rgb(ids)).save(tmp_path / "panoptic" / "a.png")
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        return content

    write()
    return tmp_path, write


TINY_IDS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 7, 7, 0, 0, 0],
        [300, 7, 7, 300, 300, 300],
        [300, 300, 300, 300, 300, 300],
    ]
)
