"""Two tiny models, from the command line to the page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from detr_d2.cli import compare as compare_cli
from detr_d2.comparison import compare, read_candidates, stages
from detr_d2.comparison.predictions import SavedPredictions
from detr_d2.data.panoptic_map import read_panoptic_png

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = REPOSITORY / "configs/Shapes-PanopticSegmentation"
NAMES = ("detr", "fpn")
TINY = """
_BASE_: "{base}"
MODEL:
  WEIGHTS: "{weights}"
  RESNETS:
    STEM_OUT_CHANNELS: 16
    RES2_OUT_CHANNELS: 16
  DETR:
    ENC_LAYERS: 1
    DEC_LAYERS: 2
    PANOPTIC:
      SCORE_THRESHOLD: 0.0
SOLVER:
  IMS_PER_BATCH: 4
  MAX_ITER: {iterations}
DATALOADER:
  NUM_WORKERS: 0
OUTPUT_DIR: "{output}"
"""


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("configs")

    def write(name, base, iterations, weights=""):
        text = TINY.format(
            base=SHAPES / base, iterations=iterations, weights=weights, output=folder / f"of_{name}"
        )
        (folder / f"{name}.yaml").write_text(text)
        return str(folder / f"{name}.yaml")

    detr = "panoptic_detr_R_18_narrow_dc5.yaml"
    first = write("first", detr, 1)
    second = write("detr", detr, 2, folder / "of_first" / "model_final.pth")
    return [f"{first}+{second}", write("fpn", "panoptic_fpn_R_18_narrow.yaml", 2)]


@pytest.fixture(scope="module")
def report(shapes, configs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("report")
    command = [sys.executable, "-W", "ignore", "tools/compare.py", "--config", *configs]
    finished = subprocess.run(
        [*command, "--output", str(output), "--images", "2"],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"the report is {output / 'report.html'}" in finished.stdout
    return output


def test_the_report_has_all_parts(report):
    text = (report / "report.md").read_text()
    for title in ("Panoptic quality", "By class", "Average precision of things", "Cost"):
        assert f"## {title}" in text
    assert "| parameters (millions) |" in text and "| training: iterations | 3 | 2 |" in text
    pictures = sorted(p.name for p in (report / "pictures").iterdir())
    kinds = [f"{kind}_{n:02d}.jpg" for kind in ("disagreement", "example") for n in (1, 2)]
    assert pictures == [*kinds, "learning_curves.png"]


def test_results_are_kept(report):
    for name in NAMES:
        results = json.loads((report / name / "evaluation.json").read_text())["results"]
        assert 0 <= results["panoptic_seg"]["PQ"] <= 100 and "AP" in results["segm"]
        cost = json.loads((report / name / "cost.json").read_text())["results"]
        assert min(cost["parameters"], cost["multiply_adds"], cost["seconds"]) > 0
        assert cost["peak_bytes"] >= 4 * cost["parameters"]


def test_predictions_of_both_are_in_the_same_ids(report):
    metadata = MetadataCatalog.get("shapes_panoptic_val")
    for name in NAMES:
        folder = report / name / "inference" / "shapes_panoptic_val"
        predictions = SavedPredictions(folder, metadata)
        for dataset_dict in DatasetCatalog.get("shapes_panoptic_val"):
            ids, infos = predictions[dataset_dict["image_id"]]
            assert ids.shape == read_panoptic_png(dataset_dict["pan_seg_file_name"]).shape
            assert set(np.unique(ids).tolist()) - {0} == {info["id"] for info in infos}
            assert all(info["isthing"] == (info["category_id"] < 4) for info in infos)


def test_nothing_is_done_twice(report, configs, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("this was done before")

    for work in ("Trainer", "measure_cost", "inference_on_dataset"):
        monkeypatch.setattr(stages, work, fail)
    before = (report / "report.md").read_bytes()
    compare(read_candidates(configs, []), report, images=2, load=False)
    assert (report / "report.md").read_bytes() == before


def test_other_weights_are_evaluated_again(report, configs, monkeypatch):
    done = []
    monkeypatch.setattr(stages, "measure_cost", lambda *_: done.append("cost") or {})
    (_, fpn) = read_candidates(configs, [])
    weights = Path(stages.train(fpn))
    stages.cost(fpn, str(weights), report / "again")
    stages.cost(fpn, str(weights), report / "again")
    assert done == ["cost"]
    os.utime(weights, (0, 0))
    stages.cost(fpn, str(weights), report / "again")
    assert done == ["cost", "cost"]


@pytest.mark.parametrize("at", [3, 5])
def test_overrides_may_follow_the_configurations_or_the_options(monkeypatch, tmp_path, at):
    seen = []
    monkeypatch.setattr(compare_cli, "read_candidates", lambda *given: seen.append(given))
    monkeypatch.setattr(compare_cli, "compare", lambda *_: None)
    command = ["--config", "a.yaml", "b.yml+c.yaml", "--output", str(tmp_path)]
    command[at:at] = ["MODEL.WEIGHTS", "w.pth"]
    monkeypatch.setattr("sys.argv", ["compare.py", *command])
    compare_cli.main()
    assert seen == [(["a.yaml", "b.yml+c.yaml"], ["MODEL.WEIGHTS", "w.pth"])]
