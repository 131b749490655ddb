import json
from types import SimpleNamespace

import pytest

from detr_d2.comparison.curves import draw_histories, history_of


def write(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def step(folder, batch):
    return SimpleNamespace(OUTPUT_DIR=str(folder), SOLVER=SimpleNamespace(IMS_PER_BATCH=batch))


def test_two_steps_are_one_history(tmp_path):
    write(
        tmp_path / "one",
        {"iteration": 19, "time": 0.5, "total_loss": 8.0},
        {"iteration": 39, "time": 1.0, "total_loss": 6.0, "panoptic_seg/PQ": 10.0},
    )
    write(
        tmp_path / "two",
        {"iteration": 19, "time": 2.0, "total_loss": 3.0},
        {"iteration": 9, "panoptic_seg/PQ": 30.0},
        {"iteration": 20, "panoptic_seg/PQ": 40.0},
    )
    candidate = SimpleNamespace(cfgs=[step(tmp_path / "one", 4), step(tmp_path / "two", 2)])
    history = history_of(candidate)
    assert (history.iterations, history.images) == (60, 40 * 4 + 20 * 2)
    assert history.seconds == pytest.approx(20 * 0.5 + 20 * 1.0 + 20 * 2.0)
    assert history.losses == [(80, 8.0), (160, 6.0), (200, 3.0)]
    images, hours, quality = zip(*history.qualities)
    assert images == (160, 180, 200) and quality == (10.0, 30.0, 40.0)
    assert hours == pytest.approx([30 / 3600, 50 / 3600, 70 / 3600])


def test_iterations_that_were_run_again_count_once(tmp_path):
    write(
        tmp_path,
        {"iteration": 19, "time": 1.0, "total_loss": 9.0},
        {"iteration": 39, "time": 1.0, "total_loss": 8.0},
        {"iteration": 59, "time": 1.0, "total_loss": 7.0},
        {"iteration": 39, "time": 3.0, "total_loss": 5.0},
    )
    candidate = SimpleNamespace(cfgs=[step(tmp_path, 1)])
    history = history_of(candidate)
    assert history.losses == [(20, 9.0), (40, 5.0)]
    assert history.seconds == 20 * 1.0 + 20 * 3.0


def test_no_metrics_no_history(tmp_path):
    assert history_of(SimpleNamespace(cfgs=[step(tmp_path, 1)])) is None


def test_curves_have_a_line_for_each(tmp_path):
    lines = [{"iteration": i, "time": 1.0, "total_loss": 1.0 + i} for i in range(3)]
    write(tmp_path, *lines, {"iteration": 2, "panoptic_seg/PQ": 50.0})
    history = history_of(SimpleNamespace(cfgs=[step(tmp_path, 1)]))
    quality, loss = draw_histories({"a": history, "b": history}).axes
    assert [line.get_label() for line in quality.lines] == ["a", "b"]
    assert loss.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]  # too few to be smoothed
    assert quality.lines[0].get_ydata().tolist() == [50.0]
