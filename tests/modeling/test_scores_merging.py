"""Merging by score times probability: by hand, and against a retelling pixel by pixel."""

import math

import pytest
import torch
from merging import merge
from sizes import SIZES, logits_of, random_masks

from detr_d2.errors import UserError
from detr_d2.modeling.merging import MergingRule, contest
from detr_d2.modeling.postprocessing import instance_masks, panoptic_from_masks

# Classes 0 and 1 are things, 2 and 3 are stuff.
IS_THING = torch.tensor([True, True, False, False])


def merge_by_pixel(logits, classes, scores, small_segment_area, least_share):
    """The rule of docs/panoptic_merging.md, from (K, H', W') logits."""
    queries, pixels = (
        range(len(classes)),
        [divmod(n, logits.shape[2]) for n in range(logits[0].numel())],
    )
    p = [[1 / (1 + math.exp(-x)) for x in mask.flatten().tolist()] for mask in logits]

    def best(pixel, left):
        return max(left, key=lambda q: scores[q].item() * p[q][pixel])

    winners = [best(pixel, queries) for pixel in range(len(pixels))]
    left = []
    for q in queries:
        own = [pixel for pixel in range(len(pixels)) if p[q][pixel] > 0.5]
        if own and sum(winners[pixel] == q for pixel in own) / len(own) >= least_share:
            left.append(q)
    kinds = [f"stuff {c}" if c >= 2 else f"thing {q}" for q, c in enumerate(classes.tolist())]
    while left:
        picture = [kinds[best(pixel, left)] for pixel in range(len(pixels))]
        large = [q for q in left if picture.count(kinds[q]) > small_segment_area]
        if large == left:
            break
        left = large
    found = list(dict.fromkeys(kinds[q] for q in left))
    ids = [found.index(kind) + 1 for kind in picture] if left else [0] * len(pixels)
    info = [
        {
            "id": number,
            "category_id": classes[kinds.index(kind)].item(),
            "isthing": kind.startswith("thing"),
            "score": max(scores[q].item() for q in left if kinds[q] == kind),
            "area": picture.count(kind),
        }
        for number, kind in enumerate(found, 1)
    ]
    return torch.tensor(ids, dtype=torch.int32).view(logits.shape[1:]), info


@pytest.mark.parametrize("kind", ["smooth", "noise"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("least_share", [0.0, 0.5, 0.7])
def test_merging_equals_a_retelling_pixel_by_pixel(kind, sizes, least_share):
    pixels = sizes[3][0] * sizes[3][1]
    for queries in (1, 2, 5, 9):
        for small in (0, 4, pixels // 6):
            masks = random_masks(kind, queries, sizes[0]) + torch.randn(queries, 1, 1)
            classes, scores = torch.randint(4, (queries,)), torch.rand(queries).double()
            rule = MergingRule("scores", small, least_share)
            found = panoptic_from_masks(
                rule.upsampled(masks, *sizes[1:]), classes, scores, IS_THING, rule
            )
            logits = logits_of(masks, *sizes[1:], nearest=False)
            wanted = merge_by_pixel(logits, classes, scores, small, least_share)
            assert torch.equal(found[0], wanted[0]) and found[1] == wanted[1]


# The example of docs/panoptic_merging.md: one row of twelve pixels.
PARTS = (4, 3, 1, 4)
PROBABILITIES = torch.tensor(
    [
        [0.99, 0.02, 0.02, 0.01],  # grass
        [0.02, 0.95, 0.40, 0.05],  # grass
        [0.01, 0.30, 0.20, 0.95],  # dog
        [0.01, 0.05, 0.90, 0.98],  # cat
    ]
)
GRASS, DOG, CAT = 2, 0, 1
EXAMPLE = PROBABILITIES.logit().repeat_interleave(torch.tensor(PARTS), 1)[:, None]
CLASSES, SCORES = torch.tensor([GRASS, GRASS, DOG, CAT]), torch.tensor([0.90, 0.80, 0.95, 0.55])


def merged_example(**rule) -> list[list[int]]:
    """The class of each segment, with the number of its pixels, in order."""
    panoptic_seg, info = merge(EXAMPLE, CLASSES, SCORES, IS_THING, (1, 12), 1, **rule)
    areas = torch.tensor([i["area"] for i in info])
    assert torch.equal(
        panoptic_seg[0].long(), torch.arange(1, len(info) + 1).repeat_interleave(areas)
    )
    return [[i["category_id"], i["area"], round(i["score"], 2)] for i in info]


def test_the_example_by_hand():
    assert merged_example() == [[GRASS, 7, 0.9], [CAT, 5, 0.55]]
    assert merged_example(official_stuff_rule=True) == [[GRASS, 4, 0.9], [CAT, 8, 0.55]]
    assert merged_example(merge="scores") == [[GRASS, 8, 0.9], [DOG, 4, 0.95]]
    # With one of its five pixels the cat would stay, were it not for SMALL_SEGMENT_AREA.
    assert merged_example(merge="scores", least_share=0.2) == merged_example(merge="scores")


def test_shares_of_the_example():
    rule = MergingRule("scores")
    found = contest(rule.upsampled(EXAMPLE, *[(1, 12)] * 3), SCORES, rule)
    assert found.winners.tolist() == [[0] * 4 + [1] * 3 + [3] + [2] * 4]
    assert found.shares.tolist() == [1, 1, 1, 0.2]
    assert found.remaining.tolist() == [True, True, True, False]


def test_a_share_of_just_the_least_is_enough():
    logits = torch.tensor([[5.0] * 10, [-5.0] * 7 + [9.0] * 3])[:, None]
    arguments = (torch.tensor([0, 1]), torch.tensor([0.9, 0.95]), IS_THING, (1, 10), 0)
    areas = {
        share: [i["area"] for i in merge(logits, *arguments, merge="scores", least_share=share)[1]]
        for share in (0.7, 0.71)
    }
    assert areas == {0.7: [7, 3], 0.71: [10]}


def test_the_test_of_shares_is_made_once():
    """The first loses 4 of 10 pixels to the second, which is dropped as well, and stays dropped."""
    logits = torch.tensor([[4.0] * 10 + [-4] * 30, [-4.0] * 6 + [4] * 4 + [1] * 30, [2.0] * 40])
    scores = torch.tensor([0.9, 0.95, 0.91])
    found = merge(
        logits[:, None], torch.tensor([0, 0, 2]), scores, IS_THING, (1, 40), 0, merge="scores"
    )
    assert [(i["category_id"], i["area"]) for i in found[1]] == [(2, 40)]


def test_no_mask_with_a_pixel_of_its_own_leaves_everything_void():
    logits = torch.full((3, 4, 5), -1.0)
    for least_share in (0.0, 0.7):
        panoptic_seg, info = merge(
            logits,
            *(torch.tensor([0, 1, 2]), torch.full((3,), 0.9), IS_THING, (4, 5), 0),
            merge="scores",
            least_share=least_share,
        )
        assert not panoptic_seg.any() and info == []


def test_pixels_outside_of_all_masks_go_to_the_best():
    logits = torch.tensor([[3.0, -300.0, -400.0], [-350.0, -310.0, 3.0]])[:, None]
    arguments = (torch.tensor([0, 1]), torch.tensor([0.6, 0.9]), IS_THING, (1, 3), 0)
    panoptic_seg, _ = merge(logits, *arguments, merge="scores")
    assert panoptic_seg.tolist() == [[1, 1, 2]]


def test_no_query_leaves_everything_void():
    none = torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    panoptic_seg, info = merge(*none, IS_THING, (5, 6), 4, merge="scores")
    assert torch.equal(panoptic_seg, torch.zeros(5, 6, dtype=torch.int32)) and info == []


def test_instance_masks_go_the_way_of_the_rule():
    logits = torch.tensor([[[1.0, -0.5]]])
    masks = {
        m: MergingRule(m).upsampled(logits, (1, 2), (1, 2), (1, 8)) for m in ("official", "scores")
    }
    assert instance_masks(masks["official"]).tolist() == [[[True] * 4 + [False] * 4]]
    # Centres lie at -3/8, -1/8, 1/8, ... of the two logits, which cross 0 at 2/3.
    assert instance_masks(masks["scores"]).tolist() == [[[True] * 5 + [False] * 3]]


@pytest.mark.parametrize(
    "rule, remedy",
    [
        ({"merge": "mine"}, "MERGE is mine: set it to one of official, scores."),
        ({"least_share": 1.5}, "LEAST_SHARE is 1.5: set it to a share of a mask's pixels"),
        ({"merge": "scores", "official_stuff_rule": True}, "OFFICIAL_STUFF_RULE belongs to MERGE"),
    ],
)
def test_a_rule_that_there_is_not(rule, remedy):
    with pytest.raises(UserError, match=remedy):
        MergingRule(**rule)
