"""The steps end where the model's own merging ends."""

import math

import pytest
import torch
from merging import masks_of, merge

from detr_d2.explain.merging import merging_steps
from detr_d2.modeling.merging import MergingRule

IS_THING = torch.tensor([True, True, False, False])


def same_partition(segments, ids) -> bool:
    """Whether two maps cut the image into the same pieces, and leave the same pixels out."""
    pairs = set(zip(segments.flatten().tolist(), ids.flatten().tolist()))
    pieces, numbers = zip(*pairs)
    out = {(s, i) for s, i in pairs if (s == -1) != (i == 0)}
    return len(set(pieces)) == len(set(numbers)) == len(pairs) and not out


RULES = [
    {"official_stuff_rule": False},
    {"official_stuff_rule": True},
    {"merge": "scores", "least_share": 0.3},
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("small_area", [0, 30, 10**6])
def test_last_step_is_the_models_map(small_area, rule):
    for _ in range(10):
        logits = torch.nn.functional.interpolate(torch.randn(1, 9, 4, 5), size=(23, 31))[0]
        classes = torch.randint(4, (9,))
        scores = torch.rand(9)
        merging = MergingRule(small_segment_area=small_area, **rule)
        masks = masks_of(logits, (20, 40), merging)
        steps = merging_steps(masks, classes, scores, IS_THING, merging)
        ids, info = merge(logits, classes, scores, IS_THING, (20, 40), small_area, **rule)
        assert same_partition(steps[-1].segments, ids)
        assert steps[-1].num_segments == len(info)
        classes_of_winners = classes[steps[-1].winners]
        for segment in info:
            assert (classes_of_winners[ids == segment["id"]] == segment["category_id"]).all()


def test_every_step_by_hand():
    # Stuff 2 has queries 0 and 2; query 3, a thing, has one pixel, where query 1 comes second.
    logits = torch.tensor(
        [
            [[9.0, 1.0, 1.0, 0.0]],
            [[0.0, 5.0, 2.0, 7.0]],
            [[1.0, 2.0, 8.0, 3.0]],
            [[2.0, 3.0, 3.0, 9.0]],
        ]
    ).repeat_interleave(2, dim=1)
    logits[3, 1, 3] = -1
    classes = torch.tensor([2, 0, 2, 1])
    masks, rule = masks_of(logits, (2, 4)), MergingRule(small_segment_area=1)
    argmax, united, removed = merging_steps(masks, classes, torch.ones(4), IS_THING, rule)
    assert argmax.segments.tolist() == [[0, 1, 2, 3], [0, 1, 2, 1]]
    assert (argmax.num_segments, argmax.pixels_changed) == (4, 0)
    assert united.segments.tolist() == [[0, 1, 0, 3], [0, 1, 0, 1]]
    assert (united.num_segments, united.pixels_changed) == (3, 2)
    assert united.winners.tolist() == argmax.segments.tolist()
    assert removed.segments.tolist() == [[0, 1, 0, 1], [0, 1, 0, 1]]
    assert (removed.num_segments, removed.pixels_changed, removed.removed) == (2, 1, [3])


def test_without_queries_there_is_no_step():
    none = masks_of(torch.zeros(0, 4, 4), (4, 4)), torch.zeros(0, dtype=torch.int64)
    assert merging_steps(*none, torch.zeros(0), IS_THING, MergingRule()) == []


def test_all_segments_small():
    masks = masks_of(torch.zeros(1, 2, 2), (2, 2))
    steps = merging_steps(masks, torch.tensor([0]), torch.ones(1), IS_THING, MergingRule())
    assert steps[-1].segments.tolist() == [[-1, -1], [-1, -1]]
    assert (steps[-1].num_segments, steps[-1].pixels_changed) == (0, 4)


def test_every_step_of_the_scores_by_hand():
    # One row of six pixels. Query 3 wins the last of its four; queries 0 and 1 are one stuff.
    high, low = 3.0, -3.0
    logits = torch.tensor(
        [
            [high, high, low, low, low, low],
            [low, low, high, high, -2, -2],
            [low, low, low, low, high, low],
            [low, low, high, high, high, high],
        ]
    )[:, None]
    classes, scores = torch.tensor([2, 2, 0, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    rule = MergingRule("scores", small_segment_area=1)
    masks = masks_of(logits, (1, 6), rule)
    argmax, dropped, united, removed = merging_steps(masks, classes, scores, IS_THING, rule)
    assert argmax.segments.tolist() == [[0, 0, 1, 1, 2, 3]]
    assert dropped.segments.tolist() == [[0, 0, 1, 1, 2, 1]]  # 0.8 sigmoid(-2) is the most
    assert (dropped.removed, dropped.pixels_changed, dropped.shares) == ([3], 1, [1, 1, 1, 0.25])
    assert united.segments.tolist() == [[0, 0, 0, 0, 2, 0]]
    assert removed.segments.tolist() == [[0, 0, 0, 0, 0, 0]]
    assert [step.shares for step in (argmax, united, removed)] == [None] * 3
    assert [step.num_segments for step in (argmax, dropped, united, removed)] == [4, 3, 2, 1]


def test_no_query_with_a_pixel_of_its_own():
    rule = MergingRule("scores")
    masks = masks_of(-torch.ones(1, 2, 2), (2, 2), rule)
    argmax, dropped, united = merging_steps(masks, torch.tensor([0]), torch.ones(1), IS_THING, rule)
    assert math.isnan(dropped.shares[0])
    assert dropped.removed == [0]
    assert (argmax.num_segments, dropped.num_segments, united.num_segments) == (1, 0, 0)
