"""What config.json says, in the words of transformers 4 and 5."""

import pytest

from detr_d2.checkpoint.classes import COCO_PANOPTIC_RAW, COCO_THINGS, COCO_THINGS_RAW, Classes
from detr_d2.checkpoint.huggingface import classes_of_config, is_dilated


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dilation": True, "backbone": "resnet50"}, True),  # 4
        ({"dilation": False, "backbone_config": {"output_stride": 16}}, True),  # 5
        ({"dilation": False, "backbone_config": {"output_stride": 32}}, False),
        ({"dilation": False, "backbone_config": None}, False),
        ({}, False),
    ],
)
def test_dilation(config, expected):
    assert is_dilated(config) is expected


def labels(names):
    return {"id2label": {str(row): name for row, name in enumerate(names)}}


def test_labels_of_coco():
    raw = [name or "N/A" for name in COCO_THINGS_RAW.names]
    assert classes_of_config(labels(raw), 92) == COCO_THINGS_RAW
    other_spelling = ["aeroplane" if name == "airplane" else name for name in raw]
    assert classes_of_config(labels(other_spelling), 92) == COCO_THINGS_RAW
    assert classes_of_config(labels(COCO_THINGS.names), 81) == COCO_THINGS


def test_models_without_names():
    """The panoptic models were published so."""
    nameless = labels(f"LABEL_{row}" for row in range(250))
    assert classes_of_config(nameless, 251) == COCO_PANOPTIC_RAW
    assert classes_of_config({}, 92) == COCO_THINGS_RAW
    assert classes_of_config({}, 5) is None


def test_labels_of_ones_own():
    assert classes_of_config(labels(["cat", "N/A", "owl"]), 4) == Classes(
        ("cat", None, "owl"), (None, None, None)
    )
    # as many as COCO's, but others
    own = [f"part {row}" for row in range(80)]
    assert classes_of_config(labels(own), 81) == Classes(tuple(own), (None,) * 80)
