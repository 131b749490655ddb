"""Stages of a training, and the table of pictures that is drawn of them."""

import json

import numpy as np
import pytest
from detectron2.data import Metadata

from detr_d2.errors import UserError
from detr_d2.learning import stages_of
from detr_d2.learning.table import CELL, Column, draw_table

THINGS = {"panoptic_seg/PQ_th": 5.0}
METRICS = [
    {"iteration": 19, "time": 6.0, "total_loss": 3.0, "panoptic_seg/PQ": 10.0, **THINGS},
    {"iteration": 39, "time": 6.0, "total_loss": 2.0},
    {"iteration": 59, "time": 6.0, "total_loss": 1.0},
    {"iteration": 60, "panoptic_seg/PQ": 30.0},
]


@pytest.fixture
def training(tmp_path):
    """The folder of one with a checkpoint each 20 iterations, and two evaluations."""
    (tmp_path / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in METRICS))
    for name in ("0000019", "0000039", "0000059", "final", "other"):
        (tmp_path / f"model_{name}.pth").touch()
    return tmp_path


def test_stages_are_those_of_the_checkpoints(training):
    first, second, last = stages_of(training, 3)
    assert [s.iterations for s in (first, second, last)] == [20, 40, 60]
    assert last.checkpoint.name == "model_final.pth"
    assert first.title == ["after 2.0 minutes: PQ 10.0", "(things 5.0)"]
    assert second.title == ["after 40 steps", ""]
    assert last.evaluation.quality == 30.0


def test_fewer_stages_have_the_first_and_the_last(training):
    assert [s.iterations for s in stages_of(training, 2)] == [20, 60]
    assert [s.iterations for s in stages_of(training, 9)] == [20, 40, 60]


def test_a_running_training_has_stages(training):
    for name in ("0000059", "final"):
        (training / f"model_{name}.pth").unlink()
    assert [s.iterations for s in stages_of(training, 3)] == [20, 40]


def test_what_has_no_stages_is_said(training, tmp_path):
    for path in training.glob("model_*.pth"):
        path.unlink()
    with pytest.raises(UserError, match="has no checkpoint"):
        stages_of(training, 3)
    with pytest.raises(UserError, match="absent does not exist"):
        stages_of(tmp_path / "absent", 3)


def test_a_table_has_a_column_a_stage_and_a_legend():
    metadata = Metadata(thing_classes=["car", "road"], thing_colors=[[200, 0, 0], [0, 0, 200]])
    wide, high = np.full((40, 80, 3), 90, np.uint8), np.full((160, 80, 3), 30, np.uint8)
    table = np.asarray(draw_table([Column(["a"], [wide, high])] * 3, metadata))
    ink = (table == 90).all(2)
    assert ink.sum() == pytest.approx(3 * CELL * CELL // 2, rel=0.05)
    ink = (table == 30).all(2)
    assert ink.sum() == pytest.approx(3 * CELL * CELL // 2, rel=0.05)
    assert table.shape[1] > 3 * CELL
    legend = table[-25:]
    for color in metadata.thing_colors:
        assert (legend == color).all(2).sum() == 13 * 13


def test_a_long_legend_has_several_lines():
    metadata = Metadata(thing_classes=[f"a class {n}" for n in range(20)])
    column = Column(["a"], [np.zeros((10, 10, 3), np.uint8)])
    heights = [draw_table([column] * n, metadata).height for n in (1, 20)]
    assert heights[0] > heights[1]
