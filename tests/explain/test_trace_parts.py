"""Pyramid, proposals, regions, semantic map and windows, as they are recorded."""

import pytest
import torch
import torch.nn.functional as F
from parts import PARTS

from detr_d2.explain import trace
from detr_d2.modeling.dense_head import propose
from detr_d2.modeling.query_boxes import corrected
from detr_d2.modeling.windows import paste

OF_PARTS = {"pyramid", "cells", "proposals", "content", "stuff_queries", "semantic"}
OF_PARTS |= {"start_logits", "coarse_logits", "windows", "window_queries", "window_logits"}
KEEP_ALL = ("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0)


@pytest.fixture
def model(build_model, randomise):
    model = randomise(build_model("PanopticDETR", *KEEP_ALL, *PARTS["proposals"])).eval()
    with torch.no_grad():
        model.class_embed.bias[-1] = -1  # of no-object
        model.mask_head.window.out.weight.normal_(std=0.1)
    return model


@pytest.fixture
def predictions(model, draw_input):
    """The input, its trace, and what the model says by itself."""
    image = draw_input(64, 90)
    (traced,) = trace(model, [image])
    with torch.no_grad():
        return traced, model.predict(model.preprocess([image]), all_layers=True)


def test_an_official_model_has_none_of_it(build_model, draw_input):
    model = build_model("PanopticDETR", *KEEP_ALL).eval()
    (traced,) = trace(model, [draw_input(64, 48)])
    assert not OF_PARTS & {name.split(".")[0] for name in traced}
    assert not any(name.endswith("references") for name in traced)


def test_levels_cells_and_proposals_are_those_of_the_model(model, predictions):
    traced, predictions = predictions
    decoded = predictions.decoded
    for name, level in zip(("res4", "res3", "res2"), decoded.levels.maps):
        assert torch.equal(traced[f"pyramid.{name}"], level[0])
    for name in ("features", "logits", "boxes"):
        assert torch.equal(traced[f"cells.{name}"], getattr(decoded.cells, name)[0])
    transformer = model.transformer
    chosen = propose(decoded.cells, transformer.num_proposals, transformer.nms_threshold)
    assert torch.equal(traced["proposals"], chosen[0])
    assert torch.equal(traced["stuff_queries"], model.query_embed.weight)
    assert not traced["content"][:4].any()
    wanted = transformer.content(traced["cells.features"][chosen[0]])
    torch.testing.assert_close(traced["content"][4:], wanted)


def test_layers_look_where_the_layer_before_found_the_box(model, predictions):
    traced, predictions = predictions
    references = predictions.decoded.references
    for layer, boxes in enumerate(references):
        assert torch.equal(traced[f"decoder.{layer}.references"], boxes[0, 4:])
    found = corrected(model.bbox_embed(traced["hs"][4:]), traced["decoder.1.references"])
    torch.testing.assert_close(traced["boxes"][4:], found)


def test_the_first_layer_of_regions_looks_at_the_whole_image(build_model, draw_input):
    model = build_model("DETR", *PARTS["regions"]).eval()
    (traced,) = trace(model, [draw_input(64, 48)])
    assert torch.equal(
        traced["decoder.0.references"], torch.tensor([[0.5, 0.5, 1, 1]]).expand(5, 4)
    )
    box = model.bbox_embed(model.transformer.decoder.norm(traced["decoder.0"])).sigmoid()
    torch.testing.assert_close(traced["decoder.1.references"], box)


@pytest.mark.parametrize("masks_per_chunk", [100, 4])
def test_masks_are_the_sum_of_their_parts(model, draw_input, masks_per_chunk):
    """Two images whose queries lie in common chunks."""
    model.masks_per_chunk = masks_per_chunk
    for traced in trace(model, [draw_input(64, 90), draw_input(64, 90)]):
        of_stuff = traced["mask_queries"] < 4
        steps = traced["start_logits"].clone()
        convolved = traced["mask_head.out_lay"][None]
        steps[of_stuff] += F.interpolate(convolved, steps.shape[-2:], mode="bilinear")[0]
        torch.testing.assert_close(traced["coarse_logits"], steps, rtol=1e-4, atol=1e-4)

        queries, windows = traced["window_queries"].tolist(), traced["windows"]
        things = model.is_thing[traced["classes"][queries]]
        assert things.all() and len(queries) == int((traced["mask_queries"] >= 4).sum()) > 0
        masked = traced["mask_queries"].tolist()
        rows = [masked.index(query) for query in queries]
        full = F.interpolate(traced["coarse_logits"][None], (64, 90), mode="bilinear")[0]
        x, y = torch.arange(90) + 0.5, torch.arange(64) + 0.5
        pasted, inside = paste(traced["window_logits"], windows, x, y)
        logits = traced["mask_logits"]
        wanted = (full[rows] + pasted)[inside]
        torch.testing.assert_close(logits[rows][inside], wanted, rtol=1e-4, atol=1e-4)
        assert (logits[rows][~inside] <= -8).all()
        stuff = [row for row, query in enumerate(masked) if query not in queries]
        torch.testing.assert_close(logits[stuff], full[stuff], rtol=1e-4, atol=1e-4)


def test_masks_start_from_the_log_odds_of_the_class(model, predictions):
    traced, _ = predictions
    p = traced["semantic"].softmax(0)
    odds = (p + 1e-4).log() - (1 - p + 1e-4).log()
    for row, query in enumerate(traced["mask_queries"].tolist()):
        of_query = traced["logits"][query, :-1].softmax(0)
        gain = model.mask_head.semantic_gain[int(query >= 4)]
        wanted = gain * torch.einsum("c,chw->hw", of_query, odds)
        torch.testing.assert_close(traced["start_logits"][row], wanted, rtol=1e-4, atol=1e-4)


def test_an_image_without_a_kept_query_has_a_semantic_map(model, draw_input):
    model.panoptic_score_threshold = 1.0
    inputs = [draw_input(64, 48), draw_input(64, 48)]
    for traced in trace(model, inputs):
        assert traced["semantic"].shape == (8, 32, 24)
        assert traced["window_queries"].shape == (0,)
        assert traced["window_logits"].shape == (0, 28, 28)
        assert traced["start_logits"].shape == (0, 32, 24)
        assert [row["name"] for row in traced.describe()] == list(traced)
