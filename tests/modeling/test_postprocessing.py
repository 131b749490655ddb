import pytest
import torch
import torch.nn.functional as F
from merging import merge
from nearest import nearest_of_pillow

from detr_d2.modeling.merging import MergingRule
from detr_d2.modeling.postprocessing import (
    classify,
    instance_masks,
    instances_from_queries,
    is_confident,
    panoptic_from_masks,
)
from detr_d2.modeling.upsampling import UpsampledMasks

# Classes 0 and 1 are things, 2 and 3 are stuff.
IS_THING = torch.tensor([True, True, False, False])


def masks_of(*pictures):
    """Pictures of digits, the logit at each pixel."""
    return torch.tensor([[[float(x) for x in row] for row in p.split()] for p in pictures])


# Who wins where:  queries of        after the small one is gone:
#   0 0 0 2 2        0 thing           A A A s s
#   0 0 0 2 4        1 thing           A A A s s
#   0 0 0 4 4        2 stuff           A A A s B
#   3 3 3 1 1        3 stuff           s s s B B
#   3 3 1 1 1        4 thing, small    s s B B B
MASKS = masks_of(
    "99900 99900 99900 00000 00000",
    "00000 00001 00005 00099 00999",
    "11199 11194 11150 00000 00000",
    "00000 00000 00000 99900 99000",
    "00000 00008 00088 00000 00000",
)
CLASSES = torch.tensor([0, 0, 2, 2, 1])
SCORES = torch.tensor([0.95, 0.875, 0.9, 0.99, 0.97])
MERGED = [
    [1, 1, 1, 3, 3],
    [1, 1, 1, 3, 3],
    [1, 1, 1, 3, 2],
    [3, 3, 3, 2, 2],
    [3, 3, 2, 2, 2],
]


def test_merging_by_hand():
    panoptic_seg, segments_info = merge(MASKS, CLASSES, SCORES, IS_THING, (5, 5), 4)
    assert panoptic_seg.dtype == torch.int32
    assert panoptic_seg.tolist() == MERGED
    a, b, s = segments_info
    assert a == {
        "id": 1,
        "category_id": 0,
        "isthing": True,
        "score": pytest.approx(0.95),
        "area": 9,
    }
    assert b == {"id": 2, "category_id": 0, "isthing": True, "score": 0.875, "area": 6}
    # One segment of two queries, with the better one's score.
    assert s == {
        "id": 3,
        "category_id": 2,
        "isthing": False,
        "score": pytest.approx(0.99),
        "area": 10,
    }


def test_merging_gives_plain_python_types():
    _, segments_info = merge(MASKS, CLASSES, SCORES, IS_THING, (5, 5), 4)
    types = {"id": int, "category_id": int, "isthing": bool, "score": float, "area": int}
    for info in segments_info:
        assert {key: type(value) for key, value in info.items()} == types


@pytest.mark.parametrize("small_segment_area, segments", [(2, 4), (3, 3), (5, 2), (7, 2), (8, 1)])
def test_a_segment_of_just_the_least_area_is_removed(small_segment_area, segments):
    """Areas are 9, 5, 8 and 3."""
    _, info = merge(MASKS, CLASSES, SCORES, IS_THING, (5, 5), small_segment_area)
    assert len(info) == segments
    assert [i["id"] for i in info] == list(range(1, segments + 1))
    assert sum(i["area"] for i in info) == 25


def test_merging_changes_none_of_its_arguments():
    arguments = [x.clone() for x in (MASKS, CLASSES, SCORES, IS_THING)]
    merge(*arguments, (5, 5), 4)
    for argument, before in zip(arguments, (MASKS, CLASSES, SCORES, IS_THING)):
        assert torch.equal(argument, before)


def test_segments_that_are_all_small_leave_everything_void():
    masks = masks_of("990 990", "009 009")
    panoptic_seg, info = merge(masks, torch.tensor([0, 2]), torch.ones(2), IS_THING, (2, 3), 4)
    assert panoptic_seg.dtype == torch.int32
    assert panoptic_seg.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert info == []


def test_small_segments_are_removed_together():
    """Neither gets the other's pixels first, with which it would not be small."""
    masks = masks_of("9900000 1111111", "0099000 0000000", "8877999 8888888")
    panoptic_seg, info = merge(masks, torch.tensor([0, 1, 3]), torch.ones(3), IS_THING, (2, 7), 2)
    assert panoptic_seg.unique().tolist() == [1]
    assert [(i["category_id"], i["area"]) for i in info] == [(3, 14)]


def test_a_removed_stuff_segment_takes_all_its_queries_along():
    masks = masks_of("9000 0000", "0009 0000", "5885 5555")
    _, info = merge(masks, torch.tensor([2, 2, 0]), torch.ones(3), IS_THING, (2, 4), 2)
    assert [(i["category_id"], i["area"]) for i in info] == [(0, 8)]


def test_the_official_rule_may_take_two_rounds():
    """First the second query of class 2 goes, whose pixels had kept the first from being small."""
    masks = masks_of("99900000 00000000", "00099000 00000000", "55555999 99999999")
    arguments = (masks, torch.tensor([2, 2, 0]), torch.ones(3), IS_THING, (2, 8), 4)
    _, united = merge(*arguments)
    _, official = merge(*arguments, official_stuff_rule=True)
    assert [(i["category_id"], i["area"]) for i in united] == [(2, 5), (0, 11)]
    assert [(i["category_id"], i["area"]) for i in official] == [(0, 16)]


def test_no_query_leaves_everything_void():
    panoptic_seg, info = merge(
        torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), IS_THING, (5, 6), 4
    )
    assert panoptic_seg.dtype == torch.int32
    assert torch.equal(panoptic_seg, torch.zeros(5, 6, dtype=torch.int32))
    assert info == []


def merge_by_pixel(masks, classes, scores, output_size, small_segment_area):
    """What `panoptic_from_masks` says of itself, one pixel at a time."""
    h, w = masks.shape[1:]
    height, width = output_size
    kinds = [f"stuff {c}" if c >= 2 else f"thing {q}" for q, c in enumerate(classes.tolist())]
    left = list(range(len(kinds)))
    while left:
        picture = {}
        for row in range(height):
            for column in range(width):
                y, x = nearest_of_pillow(h, height)[row], nearest_of_pillow(w, width)[column]
                picture[row, column] = kinds[max(left, key=lambda q: masks[q, y, x].item())]
        areas = {kind: list(picture.values()).count(kind) for kind in kinds}
        if all(areas[kinds[q]] > small_segment_area for q in left):
            break
        left = [q for q in left if areas[kinds[q]] > small_segment_area]
    found = list(dict.fromkeys(kinds[q] for q in left))  # in the order of their first queries
    panoptic_seg = torch.zeros(output_size, dtype=torch.int32)
    if found:
        for pixel, kind in picture.items():
            panoptic_seg[pixel] = found.index(kind) + 1
    info = [
        {
            "id": found.index(kind) + 1,
            "category_id": classes[kinds.index(kind)].item(),
            "isthing": kind.startswith("thing"),
            "score": max(scores[q].item() for q in left if kinds[q] == kind),
            "area": areas[kind],
        }
        for kind in found
    ]
    return panoptic_seg, info


@pytest.mark.parametrize("output_size", [(19, 25), (12, 30), (40, 31)])
@pytest.mark.parametrize("small_segment_area", [4, 40])
def test_merging_of_padded_masks_equals_a_loop_over_pixels(output_size, small_segment_area):
    padded_size, image_size = (24, 27), (19, 25)
    for queries in range(2, 7):
        masks = torch.randn(queries, 6, 7).double()
        classes, scores = torch.randint(4, (queries,)), torch.rand(queries)
        found = panoptic_from_masks(
            UpsampledMasks(masks, padded_size, image_size, output_size),
            classes,
            scores,
            IS_THING,
            MergingRule(small_segment_area=small_segment_area),
        )
        full = F.interpolate(masks[None], padded_size, mode="bilinear")[0, :, :19, :25]
        wanted = merge_by_pixel(full, classes, scores, output_size, small_segment_area)
        assert torch.equal(found[0], wanted[0]) and found[1] == wanted[1]


@pytest.mark.parametrize("output_size", [(6, 8), (9, 5), (3, 4), (11, 13)])
@pytest.mark.parametrize("small_segment_area", [0, 4, 12])
def test_merging_equals_a_loop_over_pixels(output_size, small_segment_area):
    for queries in range(1, 9):
        # Blocks of one winner, and some single pixels.
        blocks = torch.randn(queries, 3, 4).repeat_interleave(2, 1).repeat_interleave(2, 2)
        masks = blocks + 0.5 * torch.randn(queries, 6, 8)
        classes, scores = torch.randint(4, (queries,)), torch.rand(queries)
        found = merge(masks, classes, scores, IS_THING, output_size, small_segment_area)
        wanted = merge_by_pixel(masks, classes, scores, output_size, small_segment_area)
        assert torch.equal(found[0], wanted[0])
        assert found[1] == wanted[1]


def test_instance_masks_by_hand():
    logits = torch.tensor([[[-1.0, 0.1], [0.0, 2.0]]])
    masks = instance_masks(UpsampledMasks(logits, (2, 2), (2, 2), (2, 4)))
    assert masks.dtype == torch.bool
    # A logit of 0 is a probability of 0.5, which is not above it.
    assert masks.int().tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]
    none = UpsampledMasks(logits[:0], (2, 2), (2, 2), (2, 4))
    assert instance_masks(none).shape == (0, 2, 4)


PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5], [0.0625, 0.875, 0.0625]])


def test_classify_leaves_no_object_aside():
    scores, classes = classify(PROBABILITIES.log())
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.375, 0.875]))
    assert classes.tolist() == [0, 1, 1]


def test_scores_of_half_precision_are_float32():
    scores, _ = classify(PROBABILITIES.log().half())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.375, 0.875]), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "threshold, confident",
    [(0.0, [True, False, True]), (0.6, [False, False, True]), (0.9, [False, False, False])],
)
def test_is_confident(threshold, confident):
    assert is_confident(PROBABILITIES.log(), threshold).tolist() == confident


def test_a_probability_of_the_threshold_is_not_above_it():
    assert is_confident(torch.tensor([[200.0, 0.0]]), 1.0).tolist() == [False]


def test_instances_are_clipped_to_the_image():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]])
    found = instances_from_queries(boxes, torch.tensor([0.5, 0.25]), torch.tensor([1, 0]), (8, 16))
    assert found.image_size == (8, 16)
    assert found.pred_boxes.tensor.tolist() == [[4.0, 2.0, 12.0, 6.0], [0.0, 6.0, 4.0, 8.0]]
    assert found.scores.tolist() == [0.5, 0.25]
    assert found.pred_classes.tolist() == [1, 0]
