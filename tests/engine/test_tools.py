from argparse import ArgumentTypeError

import pytest

from detr_d2.cli import demo
from detr_d2.engine import setup_cfg
from detr_d2.engine.sources import chunks
from detr_d2.engine.tools import positive_int


def test_positive_int():
    assert positive_int("3") == 3
    for text in ("0", "-1"):
        with pytest.raises(ArgumentTypeError, match=f"{text} is less than 1"):
            positive_int(text)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, [[1], [2], [3]]), (2, [[1, 2], [3]]), (5, [[1, 2, 3]])]
)
def test_chunks(size, expected):
    assert list(chunks([1, 2, 3], size)) == expected
    assert list(chunks([], size)) == []


def test_the_demo_asks_for_no_masks_that_it_does_not_draw(monkeypatch):
    name = "COCO-PanopticSegmentation/panoptic_detr_R_50.yaml"
    assert setup_cfg(name).MODEL.DETR.INSTANCES.MASKS_ON
    argv = ["demo", "--config-file", name, "--input", "a.jpg", "--output", "out"]
    monkeypatch.setattr("sys.argv", [*argv, "MODEL.DEVICE", "cpu"])
    cfg = demo.configuration(demo.parse_args())
    assert not cfg.MODEL.DETR.INSTANCES.MASKS_ON and cfg.MODEL.DEVICE == "cpu"
