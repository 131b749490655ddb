import numpy as np
import pytest

from detr_d2.data.panoptic_map import boxes_of_segments, number_segments
from detr_d2.errors import UserError


def test_numbers_follow_the_order_of_the_annotation():
    ids = np.array([[0, 70000, 70000], [5, 5, 0]])
    assert number_segments(ids, [70000, 5], "x.png").tolist() == [[0, 1, 1], [2, 2, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_those_of_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    segment_ids = (rng.choice(2**24 - 1, rng.integers(1, 300), replace=False) + 1).tolist()
    choices = np.array([0, *segment_ids])
    ids = rng.choice(choices, (rng.integers(1, 30), rng.integers(12, 40)))
    ids.ravel()[: len(choices)] = choices[: ids.size]
    listed = [id_ for id_ in segment_ids if id_ in ids]
    numbers = number_segments(ids, listed, "x.png")
    for row, column in np.ndindex(ids.shape):
        id_ = ids[row, column]
        assert numbers[row, column] == (0 if id_ == 0 else listed.index(id_) + 1)


def test_an_image_without_segments_is_void():
    assert not number_segments(np.zeros((2, 3), int), [], "x.png").any()


def test_a_segment_of_the_png_alone_is_named():
    with pytest.raises(UserError, match=r"x\.png.*segment 8 that the JSON does not list"):
        number_segments(np.array([[8, 7]]), [7], "x.png")


def test_a_segment_of_the_json_alone_is_named():
    with pytest.raises(UserError, match=r"x\.png.*segment 9 that has no pixel"):
        number_segments(np.array([[0, 7]]), [7, 9], "x.png")


def test_boxes_end_behind_the_last_pixel():
    segment_map = np.array([[0, 0, 3], [1, 1, 0]])
    present, boxes = boxes_of_segments(segment_map, 3)
    assert present.tolist() == [0, 2]  # segment 1 has no pixel
    assert boxes.tolist() == [[0, 1, 2, 2], [2, 0, 3, 1]]


def test_no_segments_have_no_boxes():
    present, boxes = boxes_of_segments(np.zeros((3, 3), int), 0)
    assert present.shape == (0,) and boxes.shape == (0, 4)
