"""The reference and the fast path are two ways to the same numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.exactness import check_float64, check_shapes
from benchmarks.models import detr_cfg
from benchmarks.reference.data import boxes_of
from benchmarks.reference.merging_by_scores import panoptic_by_scores
from benchmarks.reference.postprocessing import panoptic_of
from benchmarks.variants import Variant
from detr_d2.modeling.merging import MergingRule
from detr_d2.modeling.postprocessing import (
    classify,
    is_confident,
    panoptic_from_masks,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("dilation", [1, 2])
def test_agree_in_float64(settings, dilation):
    overrides = ("MODEL.RESNETS.RES5_DILATION", str(dilation))
    apart = check_float64(replace(settings, overrides=overrides))
    assert apart["float64_logits"] < 1e-9
    assert apart["float64_masks"] < 1e-9
    assert apart["float64_losses"] < 1e-9
    assert apart["float64_gradients"] < 1e-8
    assert apart["float64_pixels"] == 0


def test_the_check_sees_a_small_change_of_the_fast_path(settings, monkeypatch):
    from detr_d2.modeling.mask_head import MaskHeadSmallConv

    forward = MaskHeadSmallConv.forward
    monkeypatch.setattr(MaskHeadSmallConv, "forward", lambda *x: forward(*x) * (1 + 1e-6))
    apart = check_float64(settings)
    assert apart["float64_masks"] > 1e-9
    assert apart["float64_gradients"] > 1e-8


def test_agree_on_the_trained_model(monkeypatch):
    monkeypatch.chdir(REPOSITORY)  # where the configuration finds its checkpoint
    assert check_shapes(Variant("fast"), images=3) <= 1
    assert 0 < check_shapes(Variant("fast", "bf16"), images=3) < 200


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("output_size", [(18, 27), (31, 40)])
def test_panoptic_maps_agree(settings, seed, output_size):
    generator = torch.Generator().manual_seed(seed)
    cfg = detr_cfg(settings)
    is_thing = [True, True, False, False]
    labels = torch.randint(5, (7,), generator=generator)  # 4: no-object
    logits = 20.0 * torch.nn.functional.one_hot(labels, 5)
    masks = torch.randn(7, 3, 4, generator=generator)
    size = (11, 15)
    expected, expected_infos = panoptic_of(
        logits, masks, is_thing, cfg.MODEL.DETR, size, output_size
    )
    scores, classes = classify(logits)
    kept = is_confident(logits, 0.85)
    rule = MergingRule(official_stuff_rule=True)
    masks = rule.upsampled(masks[kept], size, size, output_size)
    things = torch.tensor(is_thing)
    found, infos = panoptic_from_masks(masks, classes[kept], scores[kept], things, rule)
    assert torch.equal(found, expected) and infos == expected_infos


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("output_size", [(18, 27), (31, 40)])
def test_panoptic_maps_by_scores_agree(settings, seed, output_size):
    generator = torch.Generator().manual_seed(seed)
    panoptic = "MODEL.DETR.PANOPTIC"
    keys = (f"{panoptic}.SCORE_THRESHOLD", 0.5, f"{panoptic}.LEAST_SHARE", 0.3)
    detr = detr_cfg(settings, *keys).MODEL.DETR
    is_thing = [True, True, False, False]
    labels = torch.randint(5, (7,), generator=generator)  # 4: no-object
    logits = (1 + 5 * torch.rand(7, 1, generator=generator)) * torch.nn.functional.one_hot(
        labels, 5
    )
    masks = 3 * torch.randn(7, 3, 4, generator=generator).double()
    expected, expected_infos = panoptic_by_scores(logits, masks, is_thing, detr, output_size)
    scores, classes = classify(logits)
    kept = is_confident(logits, 0.5)
    rule = MergingRule("scores", least_share=0.3)
    masks = rule.upsampled(masks[kept], output_size, output_size, output_size)
    things = torch.tensor(is_thing)
    found, infos = panoptic_from_masks(masks, classes[kept], scores[kept], things, rule)
    assert torch.equal(found, expected) and infos == expected_infos


def test_boxes_end_behind_the_last_pixel():
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 0] = True
    assert boxes_of(masks).tolist() == [[2, 1, 6, 3], [0, 4, 1, 5]]
