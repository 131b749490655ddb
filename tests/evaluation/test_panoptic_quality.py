"""Against panopticapi on random maps, and by hand on maps of 5 x 5 pixels."""

import contextlib
import io
import math

import numpy as np
import pytest
from panoptic_maps import CATEGORIES, random_pair, write_files

from detr_d2.errors import UserError
from detr_d2.evaluation.panoptic_files import PanopticGroundTruth, evaluate_files
from detr_d2.evaluation.panoptic_quality import PanopticQuality, Quality, match_segments
from detr_d2.evaluation.panoptic_report import averages

CATEGORY_IDS = [category["id"] for category in CATEGORIES]


def panopticapi(paths: tuple, pairs: list[tuple]):
    evaluation = pytest.importorskip("panopticapi.evaluation")
    annotations = [
        [{"image_id": i, "file_name": f"{i}.png", "segments_info": pair[k]} for k in (1, 3)]
        for i, pair in enumerate(pairs)
    ]
    categories = {category["id"]: category for category in CATEGORIES}
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluation.pq_compute_single_core(0, annotations, *paths[2:], categories), categories


@pytest.mark.parametrize("seed", range(3))
def test_random_maps_score_as_with_panopticapi(tmp_path, seed):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, 40 + seed, 61) for _ in range(8)]
    paths = write_files(tmp_path, pairs)
    stat, categories = panopticapi(paths, pairs)

    truth = PanopticGroundTruth(paths[0], paths[2])
    quality, results = evaluate_files(truth, paths[1], paths[3], progress=False)

    for row, id_ in enumerate(CATEGORY_IDS):
        counts = quality.tp[row].sum(), quality.fp[row].sum(), quality.fn[row].sum()
        assert counts == (stat[id_].tp, stat[id_].fp, stat[id_].fn)
        assert quality.iou[row].sum() == pytest.approx(stat[id_].iou, abs=1e-9)
    ours = averages(quality, CATEGORIES)
    for kind, isthing in (("all", None), ("things", True), ("stuff", False)):
        theirs, _ = stat.pq_average(categories, isthing)
        average, classes = ours[kind]
        assert average == pytest.approx((theirs["pq"], theirs["sq"], theirs["rq"]), abs=1e-9)
        assert classes == theirs["n"]
    # The test would be blind without each of these.
    assert all(x.sum() > 0 for x in (quality.tp, quality.fp, quality.fn))
    assert any(result.match.truth.crowd.any() for result in results)
    assert any((pair[0] == 0).any() for pair in pairs)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_a_match_does_not_depend_on_the_type_of_the_map(dtype):
    match = match_segments(TRUTH.astype(dtype), INFOS, FOUND.astype(dtype), INFOS, "image 1")
    assert match.iou[match.hits] == pytest.approx((9 / 11, 8 / 11))


TRUTH = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 2],
        [2, 2, 2, 2, 2],
        [2, 2, 2, 2, 2],
        [0, 0, 0, 0, 0],
    ]
)
FOUND = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 2, 2, 2, 2],
        [2, 2, 2, 2, 0],
        [2, 2, 0, 0, 0],
    ]
)
INFOS = [{"id": 1, "category_id": 3}, {"id": 2, "category_id": 9}]


def test_by_hand():
    # Segment 1: 9 of 9 + 2 more. Segment 2: 8 of 11, its 2 pixels on VOID do not count.
    match = match_segments(TRUTH, INFOS, FOUND, INFOS, "image 1")
    assert match.iou == pytest.approx(np.array([[9 / 11, 0], [2 / 20, 8 / 11]]))
    assert match.hits.tolist() == [[True, False], [False, True]]
    assert match.quality() == pytest.approx((85 / 110, 85 / 110, 1))
    assert match.truth.areas.tolist() == [9, 11]
    assert match.found.areas.tolist() == [11, 10]


def test_half_is_not_enough():
    truth, found = np.zeros((5, 5), int), np.zeros((5, 5), int)
    truth[0], found[0, :] = 1, 1
    truth[1, :4], found[1, 2:4], found[2, :2] = 2, 2, 0
    truth[2, :2] = 0
    match = match_segments(truth, INFOS, found, INFOS, "image 1")
    assert match.iou[1, 1] == 0.5
    assert match.missed.tolist() == [False, True]
    assert match.false.tolist() == [False, True]


@pytest.mark.parametrize("pixels_on_void, false", [(2, True), (3, False)])
def test_a_segment_that_is_mostly_on_void_is_no_false_positive(pixels_on_void, false):
    truth, found = np.ones((5, 5), int), np.zeros((5, 5), int)
    truth[0] = 0
    found[0, :pixels_on_void] = 2
    found[1, : 4 - pixels_on_void] = 2
    match = match_segments(truth, INFOS[:1], found, INFOS[1:], "image 1")
    assert match.false.tolist() == [false]
    assert match.missed.tolist() == [True]


@pytest.mark.parametrize("category, false", [(3, False), (9, True)])
def test_a_crowd_excuses_its_own_category_alone(category, false):
    truth, found = np.zeros((5, 5), int), np.zeros((5, 5), int)
    truth[:3], found[:2] = 1, 1
    crowd = [{"id": 1, "category_id": 3, "iscrowd": 1}]
    match = match_segments(truth, crowd, found, [{"id": 1, "category_id": category}], "image 1")
    assert not match.hits.any() and not match.missed.any()
    assert match.false.tolist() == [false]


def test_a_wrong_class_is_a_miss_a_false_positive_and_named():
    swapped = [{"id": 1, "category_id": 9}, {"id": 2, "category_id": 9}]
    match = match_segments(TRUTH, INFOS, FOUND, swapped, "image 1")
    assert match.missed.tolist() == match.false.tolist() == [True, False]
    assert match.wrong_class.tolist() == [[True, False], [False, False]]


def test_sizes_count_misses_by_the_truth_and_false_positives_by_themselves():
    truth, found = np.zeros((120, 120), int), np.zeros((120, 120), int)
    truth[:32, :32] = 1  # 1024 pixels: medium
    found[:31, :32] = 1  # 992: small, but it matches
    truth[40:, :] = 2  # 9600: large, missed
    found[40:60, :10] = 2  # 200: small, false
    quality = PanopticQuality(CATEGORY_IDS)
    quality.add(match_segments(truth, INFOS, found, INFOS, "image 1"))
    car, road = CATEGORY_IDS.index(3), CATEGORY_IDS.index(9)
    assert quality.tp[car].tolist() == [0, 1, 0]
    assert quality.fn[road].tolist() == [0, 0, 1]
    assert quality.fp[road].tolist() == [1, 0, 0]
    assert quality.iou[car].tolist() == [0, 992 / 1024, 0]
    assert quality.per_class("medium").pq[car] == 992 / 1024
    assert math.isnan(quality.per_class("large").pq[car])
    assert quality.per_class("large").pq[road] == 0


def test_what_is_not_there_does_not_count_and_is_remarked():
    void = np.where(FOUND == 2, 0, FOUND)
    nothing = [*INFOS, {"id": 4, "category_id": 3}]
    match = match_segments(TRUTH, INFOS, void, nothing, "image 1")
    assert match.found.ids.tolist() == [1]
    assert ["a segment 2 that has no pixel" in remark for remark in match.remarks] == [True]

    unlisted = match_segments(TRUTH, INFOS, FOUND, INFOS[:1], "image 1")
    assert unlisted.missed.tolist() == match.missed.tolist() == [False, True]
    assert "a segment 2 that segments_info does not list" in unlisted.remarks[0]


def test_nothing_found_and_nothing_to_find():
    empty = np.zeros((5, 5), int)
    missed = match_segments(TRUTH, INFOS, empty, [], "image 1")
    assert missed.quality() == (0, 0, 0)
    nothing = match_segments(empty, [], empty, [], "image 1")
    assert all(math.isnan(x) for x in nothing.quality())
    excused = match_segments(empty, [], FOUND, INFOS, "image 1")
    assert not excused.false.any()


def test_another_size_is_named():
    with pytest.raises(UserError, match=r"image 1: the prediction is 5 x 4 pixels, .* is 5 x 5"):
        match_segments(TRUTH, INFOS, FOUND[:4], INFOS, "image 1")


def test_the_mean_leaves_out_classes_without_segments():
    of_class = Quality.of([0.8, 0, 0], [1, 0, 0], [0, 0, 2], [0, 0, 0])
    assert of_class.mean() == pytest.approx((0.4, 0.4, 0.5))
    assert math.isnan(of_class.pq[1])
