"""What is exported gives what the model gives; else it is not kept."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import FAST, NARROW, OFFICIAL, config_of, exported, of_other_sizes, pictures
from torch import nn

from detr_d2.deploy import OnnxPredictor
from detr_d2.engine import Predictor
from detr_d2.errors import UserError
from detr_d2.export import Options, Resize, TracingAdapter, check, export_model

MODELS = {
    "proposals, by scores": (FAST, ()),
    "learned queries, by scores": (NARROW, ()),
    "learned queries, official merging": (NARROW, OFFICIAL),
}


def assert_same(found: dict, wanted: dict) -> None:
    ours, theirs = found["instances"], wanted["instances"]
    assert len(ours) == len(theirs) > 0 and ours.image_size == theirs.image_size
    np.testing.assert_allclose(ours.pred_boxes, theirs.pred_boxes.tensor, atol=1e-2)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_array_equal(ours.pred_classes, theirs.pred_classes)
    (our_map, our_segments), (their_map, their_segments) = (
        result["panoptic_seg"] for result in (found, wanted)
    )
    assert np.mean(our_map != their_map.numpy()) <= 1e-4 and len(their_segments) > 1
    for ours, theirs in zip(our_segments, their_segments, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(ours[key] == theirs[key] for key in ("id", "category_id", "isthing"))
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert ours["area"] == pytest.approx(theirs["area"], abs=2)


@pytest.fixture(scope="module")
def proposals(shapes, tmp_path_factory):
    return exported(shapes, tmp_path_factory.mktemp("onnx"), config_of(FAST), format_name="onnx")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_adapter_gives_what_the_model_gives(model, shapes, tmp_path):
    """Before anything is recorded."""
    name, overrides = model
    cfg = config_of(name, *overrides)
    predictor = Predictor(cfg)
    resize = Resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    adapter = TracingAdapter(predictor.model, resize).eval()

    @torch.no_grad()
    def run(batch: np.ndarray) -> dict:
        return dict(zip(adapter.outputs, (t.numpy() for t in adapter(torch.from_numpy(batch)))))

    metadata = {"batch_size": 2, "input_format": "RGB", "dtype": "uint8", "precision": "float32"}
    metadata["classes"] = [{"isthing": False}] * 8
    compared = check.compare(predictor, run, metadata, pictures(shapes))
    assert all(c.agrees for c in compared) and sum(c.segments for c in compared) > 10


def test_onnx_at_sizes_that_it_has_not_seen(proposals, shapes):
    predictor, path, table = proposals
    runtime = OnnxPredictor(path)
    images = of_other_sizes(shapes)
    for found, wanted in zip(runtime(images), predictor(images), strict=True):
        assert_same(found, wanted)
    assert_same(runtime(images[0]), predictor(images[0]))
    assert runtime([]) == []
    assert table.count("yes") == 3 and "NO" not in table
    assert (path.parent / "check-onnx.md").read_text() == f"{table}\n"


def test_onnx_of_the_official_merging_and_of_a_batch(shapes, tmp_path):
    cfg = config_of(NARROW, *OFFICIAL)
    options = {"format_name": "onnx", "batch_size": 2, "floats": True}
    predictor, path, _ = exported(shapes, tmp_path, cfg, **options)
    runtime = OnnxPredictor(path)
    images = of_other_sizes(shapes)  # of three sizes: each batch is filled
    images.append(images[0][:, ::-1].copy())
    for found, wanted in zip(runtime(images), predictor(images), strict=True):
        assert_same(found, wanted)


def test_torchscript_has_its_metadata(shapes, tmp_path):
    _, path, table = exported(shapes, tmp_path, config_of(NARROW), format_name="torchscript")
    assert path.name == "model.ts" and "NO" not in table
    files = {"detr_d2.json": ""}
    torch.jit.load(str(path), _extra_files=files)
    metadata = json.loads(files["detr_d2.json"])
    assert [c["name"] for c in metadata["classes"]][:2] == ["circle", "square"]
    assert metadata["size"] is None and metadata["batch_size"] == 1


def test_torch_export_of_one_size(shapes, tmp_path):
    cfg = config_of(NARROW)
    options = {"format_name": "torch-export", "size": (60, 80)}
    _, path, table = exported(shapes, tmp_path, cfg, **options)
    assert path.name == "model.pt2" and table.count("80 x 60") == 3 and "NO" not in table


def test_with_fewer_masks_than_are_kept_the_best_take_part(shapes):
    cfg = config_of(NARROW)
    predictor = Predictor(cfg)
    image = torch.from_numpy(pictures(shapes)[1].transpose(2, 0, 1).copy())[None]
    found = []
    for most in (None, 12, 2):
        adapter = TracingAdapter(predictor.model, Resize(0, 0), max_masks=most).eval()
        with torch.no_grad():
            found.append(dict(zip(adapter.outputs, adapter(image))))
    everyone, twelve, two = found
    assert torch.equal(everyone["panoptic_seg"], twelve["panoptic_seg"])
    assert twelve["num_kept"].item() > 2 and "num_kept" not in everyone
    assert 0 < (two["segment_classes"] >= 0).sum() <= 2
    assert two["segment_scores"].max() == everyone["segment_scores"].max()


def test_what_differs_is_not_kept(shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(check.ALLOWED, "float32", check.Allowed(scores=-1.0))
    monkeypatch.setattr(check, "ROUNDING", -1.0)
    with pytest.raises(UserError, match="differs from the model, and is not kept") as caught:
        exported(shapes, tmp_path / "out", config_of(NARROW), format_name="torchscript")
    assert caught.value.table.count("NO") == 3
    assert not any((tmp_path / "out").iterdir())


class OwnHead(nn.Module):
    """It goes by a number in Python."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, projected, maps, counts, features, queries):
        masks = self.head(projected, maps, counts, features, queries)
        return masks if maps.mean() > 0 else -masks


def test_a_part_that_cannot_be_recorded_is_named(shapes, tmp_path):
    cfg = config_of(NARROW)
    predictor = Predictor(cfg)
    predictor.model.mask_head = OwnHead(predictor.model.mask_head)
    with pytest.raises(UserError, match=r"^MODEL.DETR.MASK_HEAD OwnHead goes by numbers in Python"):
        export_model(cfg, predictor, tmp_path, pictures(shapes), Options("torchscript"))
    assert not any(tmp_path.iterdir())


def test_what_is_no_detr_cannot_be_exported():
    with pytest.raises(UserError, match="Linear cannot be exported"):
        TracingAdapter(nn.Linear(1, 1), Resize(0, 0))
    with pytest.raises(UserError, match="give it, with --size"):
        Options("torch-export")


def test_the_command(shapes, tmp_path):
    name, out = f"{NARROW}.yaml", tmp_path / "out"
    weights = config_of(NARROW).MODEL.WEIGHTS
    command = [sys.executable, "-W", "ignore", "tools/export.py", "--config-file", name]
    command += ["--format", "torchscript", "--output", str(out), "MODEL.WEIGHTS", weights]
    finished = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.endswith(f"{out / 'model.ts'}\n") and "| allowed" in finished.stdout
    assert sorted(p.name for p in out.iterdir()) == ["check-torchscript.md", "model.ts"]
