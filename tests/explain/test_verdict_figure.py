import numpy as np

from detr_d2.explain.ground_truth import Verdict
from detr_d2.explain.verdict_figure import verdict_figure


def test_segments_have_the_colour_of_their_verdict():
    truth_map, predicted = np.zeros((2, 80, 160), dtype=np.int32)
    truth_map[:, :80], truth_map[:, 80:] = 1, 2
    predicted[:, :80] = 1
    found = [Verdict("hit", 0, 1, 1.0), Verdict("miss", 1, None, 0.0)]
    photograph = np.zeros((80, 160, 3), dtype=np.uint8)

    figure = verdict_figure(truth_map, predicted, found, photograph)

    truth, result = figure.panels
    assert truth.shape == result.shape == (160, 320, 3)
    green, red = ([int(0.55 * c) for c in color] for color in ((26, 150, 65), (215, 48, 39)))
    assert truth[5, 5].tolist() == result[5, 5].tolist() == green
    assert truth[5, -5].tolist() == red
    assert result[5, -5].tolist() == [0, 0, 0]  # void
    # A white border between the two, and a number in each.
    assert (truth[5, 155:165] == 255).all(1).any()
    white = (truth == 255).all(2)
    assert white[40:120, 40:120].any() and white[40:120, 200:280].any()
    assert not (result == 255).all(2)[40:120, 200:280].any()


def test_a_segment_too_small_for_the_picture_is_left_out():
    truth_map = np.zeros((400, 800), dtype=np.int32)
    truth_map[0, 0] = 1
    found = [Verdict("miss", 0, None, 0.0)]
    photograph = np.zeros((400, 800, 3), dtype=np.uint8)
    truth, _ = verdict_figure(truth_map, np.zeros_like(truth_map), found, photograph).panels
    assert not truth.any()
