"""metrics.json, whole, cut off and resumed; and the figure that is drawn of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_d2.engine.metrics_file import read_curves
from detr_d2.engine.tools import save_figure
from detr_d2.engine.training_curves import draw_curves, name_runs
from detr_d2.errors import UserError


def line(iteration, **metrics):
    return json.dumps({"iteration": iteration, **metrics})


def loss(iteration, value=1.0, **metrics):
    return line(iteration, total_loss=value, **metrics)


@pytest.fixture
def curves_of(tmp_path):
    def read(*lines):
        (tmp_path / "metrics.json").write_text("\n".join(lines))
        return read_curves(tmp_path)

    return read


def test_each_metric_is_a_curve(curves_of):
    curves = curves_of(loss(19, 3.0, lr=1e-4), loss(39, 2.0, lr=1e-5), "")
    assert curves == {"total_loss": [(19, 3.0), (39, 2.0)], "lr": [(19, 1e-4), (39, 1e-5)]}


def test_a_line_that_was_cut_off_is_passed_over(curves_of):
    half = loss(59, 9.0)[:-5]
    assert curves_of(loss(39), half)["total_loss"] == [(39, 1.0)]
    # The resumed training's first line stands in the unfinished one.
    assert curves_of(loss(39), half + loss(59, 2.0))["total_loss"] == [(39, 1.0), (59, 2.0)]


@pytest.mark.parametrize("other", ["3", "null", "[]", '"{"', '{"total_loss": 1}', "\0"])
def test_lines_that_are_something_else_are_passed_over(curves_of, other):
    assert curves_of(other, loss(19), other)["total_loss"] == [(19, 1.0)]


def test_a_resumed_training_replaces_what_it_does_again(curves_of):
    pq = {"panoptic_seg/PQ": 10.0}
    curves = curves_of(
        loss(19, 5.0), loss(39, 4.0), line(49, **pq), loss(59, 3.0), loss(39, 2.0), loss(59, 1.0)
    )
    assert curves["total_loss"] == [(19, 5.0), (39, 2.0), (59, 1.0)]
    assert curves["panoptic_seg/PQ"] == []


def test_an_evaluation_that_is_written_late_goes_to_its_place(curves_of):
    # Metrics of every 20 iterations, evaluations of every 25.
    curves = curves_of(
        *(loss(39), line(24, **{"panoptic_seg/PQ": 10.0})),
        *(loss(59), line(49, **{"panoptic_seg/PQ": 20.0})),
    )
    assert curves["total_loss"] == [(39, 1.0), (59, 1.0)]
    assert curves["panoptic_seg/PQ"] == [(24, 10.0), (49, 20.0)]


def test_what_is_no_training_is_said(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.json does not exist"):
        read_curves(tmp_path)
    (tmp_path / "metrics.json").write_text("nothing\n")
    with pytest.raises(UserError, match="has no line with metrics"):
        read_curves(tmp_path / "metrics.json")
    with pytest.raises(UserError, match="no loss, learning rate or PQ in some"):
        draw_curves({"some": {"time": [(1, 2.0)]}})


def test_runs_are_called_by_their_folders():
    names = name_runs([Path("/a/one"), Path("/a/two/metrics.json"), Path("/b/one"), Path("/a/one")])
    assert [*names] == ["/a/one", "two", "/b/one"]


def test_a_panel_shows_every_run_that_has_its_metric():
    some = {"total_loss": [(0, 3.0), (9, 2.0)], "panoptic_seg/PQ": [(9, 40.0)]}
    some["bbox/AP"] = [(9, 30.0)]
    other = {"total_loss": [(0, 4.0), (9, 1.0)], "lr": [(0, 1e-4)]}
    figure = draw_curves({"some": some, "other": other})
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert [title.split(" (")[0] for title in panels] == [
        *("total loss", "learning rate", "PQ", "AP of boxes")
    ]
    drawn = [curve.get_xydata().tolist() for curve in panels["total loss"].get_lines()]
    assert drawn == [[[0, 3], [9, 2]], [[0, 4], [9, 1]]]
    colors = [curve.get_color() for curve in panels["total loss"].get_lines()]
    assert len(set(colors)) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["some", "other"]


@pytest.mark.parametrize("count", [50, 101, 1000])
def test_noise_is_pale_behind_its_moving_average(count):
    values = np.random.default_rng(0).uniform(1, 2, count).tolist()
    points = list(enumerate(values))
    figure = draw_curves({"some": {"total_loss": points, "lr": points}})
    losses, rates = (axes.get_lines() for axes in figure.axes)
    noise, average = losses
    assert noise.get_ydata().tolist() == values
    assert noise.get_alpha() < 0.5
    reach = count // 100
    for i, drawn in enumerate(average.get_ydata()):
        around = values[max(0, i - reach) : i + reach + 1]
        assert drawn == pytest.approx(sum(around) / len(around))
    # The learning rate has no noise.
    assert [curve.get_ydata().tolist() for curve in rates] == [values]


def test_losses_of_other_models_have_panels_and_those_of_single_layers_have_none():
    curves = {name: [(0, 1.0)] for name in ("loss_rpn_cls", "loss_ce", "loss_ce_0", "time")}
    panels = [axes.get_title() for axes in draw_curves({"some": curves}).axes]
    assert panels == ["class loss", "loss_rpn_cls"]


def test_figures_are_written_by_their_suffix(tmp_path):
    figure = draw_curves({"some": {"total_loss": [(0, 3.0), (9, 2.0)]}})
    save_figure(figure, tmp_path / "new" / "a.png")
    assert Image.open(tmp_path / "new" / "a.png").width > 500
    save_figure(figure, tmp_path / "new" / "a.svg")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"a.png", "a.svg"}
    with pytest.raises(UserError, match="is no kind of picture"):
        save_figure(figure, tmp_path / "a.txt")
