"""Rows of the table: complete, and next to each speed how far the results are apart."""

import json
import multiprocessing

import pytest
import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

import benchmarks
from benchmarks.agreement import differing_pixels, gradients_apart
from benchmarks.clock import Clock, Phases, spread
from benchmarks.measure import SavedCounter
from benchmarks.models import DecidedClasses, build_detr, decide_classes, detr_cfg
from benchmarks.variants import Variant
from benchmarks.works.training import without_dropout
from detr_d2.acceleration import FoldingStage
from detr_d2.comparison.measuring import OperationCounter, in_fresh_process, peak_on_cpu
from detr_d2.errors import UserError
from detr_d2.modeling.postprocessing import is_confident

EXACTNESS = {
    **dict.fromkeys(("float64_logits", "float64_masks", "float64_losses"), 1e-12),
    **{"float64_gradients": 2e-12, "float64_pixels": 0.0, "shapes_fast+bf16": 3.25},
}


@pytest.fixture(scope="module")
def rows(settings) -> list[dict]:
    return [row for work in benchmarks.works_of(settings) for row in benchmarks.measure(work)]


def test_every_work_has_its_variants(rows):
    found = {work: [r["variant"] for r in rows if r["work"] == work] for work in benchmarks.WORKS}
    five = ["reference", "fast", "fast+bf16", "proposals", "panoptic-fpn"]
    assert found == {
        **dict.fromkeys(("panoptic-inference", "joint-training"), five),
        **dict.fromkeys(("box-inference", "mask-training"), five[:4]),
        "mask-inference": five[1:4],
        **dict.fromkeys(("merging", "merging-all", "loading", "evaluation"), five[:2]),
        **dict.fromkeys(("merging-scores", "merging-all-scores"), five[:2]),
        **dict.fromkeys(("quality-files", "quality-memory"), five[:2]),
    }


def test_times_are_complete(rows):
    for row in rows:
        assert 0 < row["min"] <= row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
        assert row["runs"] == 2
    inference = rows[0]
    assert list(inference["phases"]) == ["backbone", "transformer", "mask head", "the rest"]


def test_what_a_model_costs_is_counted(rows):
    by_name = {(r["work"], r["variant"]): r for r in rows}
    reference, fast = (by_name["mask-training", name] for name in ("reference", "fast"))
    assert reference["parameters"] == fast["parameters"]
    assert fast["macs"] < reference["macs"] and fast["saved_bytes"] < reference["saved_bytes"]
    without, with_masks = (by_name[w, "fast"] for w in ("panoptic-inference", "mask-inference"))
    assert with_masks["macs"] > without["macs"]


def test_the_fast_path_agrees_wherever_it_is_timed(rows):
    fast = [r for r in rows if r["variant"] == "fast" and r["work"] != "mask-inference"]
    most = {
        **{"pixels_per_10000": 10, "box_pixels": 1e-3, "loss": 1e-5, "gradients": 1e-3},
        **{"grey_levels": 0, "pq_points": 1e-9},
    }
    assert len(fast) == len(benchmarks.WORKS) - 1
    for row in fast:
        assert row["apart"] and all(row["apart"][name] <= most[name] for name in row["apart"])


def test_is_written_as_json_and_markdown(rows, settings, tmp_path):
    machine = benchmarks.machine("cpu")
    benchmarks.write(tmp_path / "out", rows, EXACTNESS, machine, settings)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "benchmark.json",
        "benchmark.md",
    ]
    content = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert content["rows"] == rows and content["settings"]["kept"] == 5
    text = (tmp_path / "out/benchmark.md").read_text()
    assert "mask-head training step, 80x106, 4 segments" in text
    assert "`fast+bf16` gives 3.2 of 10,000 pixels" in text
    assert machine["cpu"] in text


def test_variants_are_read_and_written():
    for text in ("reference", "reference+tf32", "fast+bf16+compile", "panoptic-fpn+fp16"):
        assert str(benchmarks.Variant.parse(text)) == text
    for text in ("slow", "fast+int8", "fast+bf16+fp16", "fast+tf32+bf16"):
        with pytest.raises(UserError, match="There is no variant"):
            benchmarks.Variant.parse(text)
    with pytest.raises(UserError, match="reference runs in float32"):
        benchmarks.Variant.parse("reference+bf16")


def test_operations_of_layers_are_counted():
    conv, linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(6, 5)
    q = torch.randn(1, 2, 7, 8)
    with torch.no_grad(), OperationCounter() as counter:
        conv(torch.randn(1, 3, 5, 6))
        linear(torch.randn(2, 6))
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.macs == 5 * 6 * 4 * 3 * 9 + 2 * 6 * 5 + 2 * (2 * 7 * 7 * 8)


def test_convolutions_with_a_relu_are_counted():
    """Those of the backbone, with and without a sum: as many as where they are not in use."""
    block = BottleneckBlock(16, 16, bottleneck_channels=8, norm="FrozenBN").requires_grad_(False)
    stage = FoldingStage(block)
    macs = []
    for x in (torch.randn(1, 16, 6, 7), torch.randn(1, 16, 6, 7).double()):
        with OperationCounter() as counter:
            stage.to(x.dtype)(x)
        macs.append(counter.macs)
    assert macs == [6 * 7 * (2 * 16 * 8 + 9 * 8 * 8)] * 2


def test_saved_activations_are_counted_once():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 30))
    counter = SavedCounter(model)
    with counter:
        model(torch.randn(5, 10))
    # The input and the output of ReLU, which ReLU and the second layer share.
    assert counter.bytes == 4 * (5 * 10 + 5 * 20)


def _sum_of_128_mib() -> torch.Tensor:
    return torch.ones(32, 2**20).sum()


def test_peak_memory_is_what_is_added():
    peak = in_fresh_process(peak_on_cpu, _sum_of_128_mib)
    assert 120 * 2**20 < peak < 200 * 2**20


def _start_method() -> str:
    return multiprocessing.get_start_method()  # by its name: pickled, it would bring its context


def test_a_fresh_process_starts_its_own_as_this_one_does():
    assert in_fresh_process(_start_method) == _start_method()


def test_phases_and_the_rest_are_the_whole():
    model = nn.ModuleDict({"a": nn.Linear(50, 50), "b": nn.Linear(50, 50)})
    clock = Clock("cpu")
    phases = Phases(clock, {"a": [model["a"]], "b": [model["b"]]})
    x = torch.randn(50, 50)
    whole = clock.time(lambda: model["b"](model["a"](model["a"](x))))
    assert len(phases.marks) == 3
    seconds = phases.take(whole)
    assert sum(seconds.values()) == pytest.approx(whole)
    assert min(seconds.values()) > 0 and phases.marks == []


def test_spread():
    found = spread([4.0, 1.0, 2.0, 3.0, 5.0])
    assert found == {**{"median": 3, "lower_quartile": 2, "upper_quartile": 4, "min": 1, "runs": 5}}


def test_segments_are_paired_before_pixels_are_compared():
    a = torch.tensor([[1, 1, 2, 2, 3, 0]], dtype=torch.int32)
    b = torch.tensor([[2, 2, 1, 1, 1, 0]], dtype=torch.int32)
    classes = {1: 7, 2: 7, 3: 5}
    infos = [{"id": n, "category_id": c} for n, c in classes.items()]
    assert differing_pixels((a, infos), (a, infos)) == 0
    # The two segments of class 7 have changed names; the third has lost its pixel.
    assert differing_pixels((a, infos), (b, infos[:2])) == pytest.approx(10_000 / 6)


def test_gradients_are_compared_by_their_norm():
    a, b = {"x": torch.tensor([3.0, 4.0])}, {"x": torch.tensor([3.0, 4.5])}
    assert gradients_apart(b, a) == pytest.approx(0.1)


def test_nothing_is_dropped_within():
    attention = nn.MultiheadAttention(4, 1, dropout=0.25)
    model = nn.Sequential(nn.Dropout(0.5), attention)
    with without_dropout(model):
        assert model[0].p == 0 and attention.dropout == 0
    assert model[0].p == 0.5 and attention.dropout == 0.25


@pytest.mark.parametrize("name", ["fast", "proposals"])
@pytest.mark.parametrize("kept", [0, 1, 6, 20])
def test_as_many_queries_are_kept_as_are_asked_for(settings, name, kept):
    variant = Variant(name)
    cfg = detr_cfg(settings, *variant.overrides)
    model = build_detr(variant, cfg).eval()
    verdicts = decide_classes(model, cfg, kept)
    model.class_embed = DecidedClasses(model.class_embed, verdicts)
    images = model.preprocess([{"image": torch.rand(3, 64, 96) * 255}])
    with torch.no_grad():
        logits = model.predict(images, all_layers=False).logits
    assert is_confident(logits, 0.85).sum() == kept


def test_classes_are_decided():
    linear = nn.Linear(6, 5)
    decided = DecidedClasses(linear, torch.tensor([0, 1, 2, 4, 4, 4, 4]))
    hs = torch.randn(2, 1, 7, 6)
    kept = is_confident(decided(hs), 0.85)
    assert kept[..., :3].all() and not kept[..., 3:].any()
    verdicts = decided(hs).argmax(-1)[0, 0]
    assert verdicts.tolist() == [0, 1, 2, 4, 4, 4, 4]
    torch.testing.assert_close(decided(hs) - linear(hs), decided.offsets.expand(2, 1, 7, 5))
