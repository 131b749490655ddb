"""Evaluations of a training, as numbers and as a figure."""

import math

import pytest

from detr_d2.learning import draw_learning, evaluations

CURVES = {
    "total_loss": [(19, 9.0), (39, 7.0), (59, 5.0)],
    "time": [(19, 3.0), (39, 6.0), (59, 6.0)],
    "panoptic_seg/PQ": [(29, 20.0), (60, 50.0)],
    "panoptic_seg/PQ_th": [(29, 5.0), (60, 49.0)],
    "panoptic_seg/PQ_st": [(29, 35.0), (60, 51.0)],
}


def texts(axes) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in axes.texts}


def test_evaluations_have_the_iterations_and_minutes_before_them():
    first, last = evaluations(CURVES)
    # 20 iterations of 3 seconds and 10 of 6; the last has the number of one that there was not.
    assert (first.iterations, first.minutes) == (30, pytest.approx(2.0))
    assert (last.iterations, last.minutes) == (60, pytest.approx(5.0))
    assert (first.quality, first.things, first.stuff) == (20.0, 5.0, 35.0)
    assert str(last) == "PQ 50.0 (things 49.0, stuff 51.0)"


def test_a_dataset_without_things_or_stuff():
    nan = {**CURVES, "panoptic_seg/PQ_th": [(29, math.nan), (60, math.nan)]}
    del nan["panoptic_seg/PQ_st"]
    (_, last) = evaluations(nan)
    assert str(last) == "PQ 50.0"
    assert last.quality == 50.0 and math.isnan(last.things) and math.isnan(last.stuff)
    assert [*texts(draw_learning(nan, 60).axes[0])] == ["PQ 50.0"]


def test_no_evaluation_yet():
    assert evaluations({}) == []
    losses = {name: CURVES[name] for name in ("total_loss", "time")}
    assert evaluations(losses) == [] and texts(draw_learning(losses, 60).axes[0]) == {}


def test_the_figure_shows_how_far_a_training_is():
    quality, loss = draw_learning(CURVES, 120, ("other", 60.0)).axes
    assert quality.get_xlim() == loss.get_xlim() == (0, pytest.approx(10.0))
    drawn = {tuple(line.get_ydata()): list(line.get_xdata()) for line in quality.lines}
    assert drawn[(20.0, 50.0)] == pytest.approx([2.0, 5.0])
    assert {(5.0, 49.0), (35.0, 51.0), (60.0, 60.0)} <= drawn.keys()
    assert list(loss.lines[0].get_xdata()) == pytest.approx([1.0, 3.0, 5.0])


def test_labels_at_the_ends_do_not_touch():
    labels = texts(draw_learning(CURVES, 60, ("other", 60.0)).axes[0])
    assert labels == {
        "things 49.0": (pytest.approx(5.0), 49.0),
        "PQ 50.0": (pytest.approx(5.0), 54.0),
        "stuff 51.0": (pytest.approx(5.0), 59.0),
        "other: 60.0": (0, 60.0),
    }
