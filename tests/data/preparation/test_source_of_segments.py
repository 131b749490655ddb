"""Who made a segment is kept on the way through `prepare_dataset.py panoptic`."""

import json

import numpy as np
import pytest

from detr_d2.data.preparation import from_panoptic, write_panoptic

MODEL = {"source": "model", "score": 0.9}
UNSURE = {"source": "model", "score": 0.6}
HUMAN = {"source": "human"}


@pytest.mark.parametrize(
    ("left", "right", "road"),
    [
        (MODEL, UNSURE, UNSURE),  # of the two parts of one road
        (MODEL, {"source": "model"}, MODEL),
        (MODEL, HUMAN, HUMAN),
        (MODEL, {}, {}),
        ({}, {}, {}),
    ],
)
def test_a_union_is_a_models_where_all_of_it_is(tiny_dataset, tmp_path, left, right, road):
    folder, write = tiny_dataset
    ids = np.array([[7, 7, 300, 301]])
    infos = [
        {"id": 7, "category_id": 3, **UNSURE},
        {"id": 300, "category_id": 9, **left},
        {"id": 301, "category_id": 9, **right},
    ]
    annotation = {"image_id": 5, "file_name": "a.png", "segments_info": infos}
    write(ids, annotations=[annotation])
    source = from_panoptic(folder / "images", folder / "panoptic", folder / "panoptic.json")
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    content = json.loads((tmp_path / "out/panoptic_train.json").read_text())
    found = {
        info["category_id"]: {key: info[key] for key in ("source", "score") if key in info}
        for info in content["annotations"][0]["segments_info"]
    }
    assert found == {3: UNSURE, 9: road}


def test_images_without_annotation_are_counted(tiny_dataset):
    folder, write = tiny_dataset
    images = [{"id": n, "file_name": f"{n}.png", "height": 4, "width": 6} for n in (5, 6, 8)]
    write(images=images)
    json_file = folder / "panoptic.json"
    source = from_panoptic(folder / "images", folder / "panoptic", json_file)
    assert source.notes == (f"2 images of {json_file} have no annotation: left out.",)
