"""The merging that is exported gives what `panoptic_from_masks` gives."""

from dataclasses import replace

import pytest
import torch

from detr_d2.export import Resize
from detr_d2.export.geometry import Geometry
from detr_d2.export.merging import merge
from detr_d2.modeling.merging import MergingRule
from detr_d2.modeling.postprocessing import panoptic_from_masks

RULES = {
    "official": MergingRule(small_segment_area=200),
    "official stuff": MergingRule(small_segment_area=200, official_stuff_rule=True),
    "scores": MergingRule("scores", small_segment_area=200, least_share=0.2),
}
IS_THING = torch.tensor([True, True, False, False])


def blobs(number: int, height: int, width: int) -> torch.Tensor:
    """(K, h, w) smooth logits, so that there are segments of all sizes."""
    noise = torch.randn(number, 1, 4, 4) * 4 - 3
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic")[:, 0]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("length", [0, 30, 90])
def test_it_is_the_models(rule, length):
    size = (45, 64)
    geometry = Geometry.of(torch.tensor(size), Resize(length, 1000), fixed=True)
    removed = 0
    for _ in range(10):
        masks, classes, scores = blobs(9, 12, 17), torch.randint(4, (9,)), torch.rand(9)
        valid = torch.rand(9) < 0.8
        upsampled = rule.upsampled(masks[valid], geometry.network_size, geometry.network_size, size)
        wanted, info = panoptic_from_masks(upsampled, classes[valid], scores[valid], IS_THING, rule)
        found = merge(masks, classes, scores, valid, IS_THING, rule, geometry, 12)
        # But for rounding, where two masks are equal.
        assert (found.panoptic_seg != wanted).sum() <= 1
        number = len(info)
        everything = replace(rule, small_segment_area=0)
        before = panoptic_from_masks(upsampled, classes[valid], scores[valid], IS_THING, everything)
        removed += len(before[1]) - number
        assert found.classes.tolist() == [s["category_id"] for s in info] + [-1] * (12 - number)
        assert found.scores[:number].tolist() == [s["score"] for s in info]
        assert abs(found.areas[:number] - torch.tensor([s["area"] for s in info])).sum() <= 2
        assert not found.scores[number:].any() and not found.areas[number:].any()
    assert removed > 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_where_no_query_is_kept_all_is_void(rule):
    geometry = Geometry.of(torch.tensor((20, 30)), Resize(0, 0), fixed=True)
    none = torch.zeros(1, dtype=torch.bool)
    arguments = torch.zeros(1), none, IS_THING, rule, geometry, 5
    found = merge(blobs(1, 5, 8), torch.zeros(1, dtype=torch.int64), *arguments)
    assert not found.panoptic_seg.any() and found.panoptic_seg.shape == (20, 30)
    assert found.classes.tolist() == [-1] * 5
