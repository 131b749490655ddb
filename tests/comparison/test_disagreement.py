import numpy as np
import pytest

from detr_d2.comparison.disagreement import disagreement


def segments(ids, **class_of):
    infos = [{"id": int(k[1:]), "category_id": c, "isthing": True} for k, c in class_of.items()]
    return np.array(ids, dtype=np.int32), infos


def slow(one, other):
    """The definition, pair by pair, with masks."""
    (map_one, infos_one), (map_other, infos_other) = one, other
    ious = []
    for a in infos_one:
        for b in infos_other:
            mask, other_mask = map_one == a["id"], map_other == b["id"]
            iou = (mask & other_mask).sum() / (mask | other_mask).sum()
            if a["category_id"] == b["category_id"] and iou > 0.5:
                ious.append(iou)
    unmatched = len(infos_one) + len(infos_other) - 2 * len(ious)
    return 1 - sum(ious) / (len(ious) + unmatched / 2)


def test_equal_maps_agree_whatever_their_ids():
    one = segments([[1, 1, 2, 0]], _1=4, _2=6)
    other = segments([[9, 9, 3, 0]], _3=6, _9=4)
    assert disagreement(one, one) == disagreement(one, other) == 0


def test_other_classes_or_places_disagree():
    one = segments([[1, 1, 0, 0]], _1=4)
    assert disagreement(one, segments([[1, 1, 0, 0]], _1=5)) == 1
    assert disagreement(one, segments([[0, 0, 1, 1]], _1=4)) == 1
    assert disagreement(one, segments([[0, 1, 1, 1]], _1=4)) == 1  # IoU 1/4


def test_a_half_match_by_hand():
    one = segments([[1, 1, 1, 2]], _1=4, _2=5)
    other = segments([[1, 1, 0, 0]], _1=4)
    # One pair of IoU 2/3, and one segment that matches none.
    assert disagreement(one, other) == pytest.approx(1 - (2 / 3) / 1.5)


def test_nothing_and_something():
    nothing = segments([[0, 0]])
    assert disagreement(nothing, nothing) == 0
    assert disagreement(nothing, segments([[1, 0]], _1=2)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_random_maps(seed):
    rng = np.random.default_rng(seed)

    def draw(base):
        ids = np.where(rng.random(base.shape) < 0.15, rng.integers(0, 5, base.shape), base)
        infos = [
            {"id": int(i), "category_id": int(rng.integers(2)), "isthing": True}
            for i in np.unique(ids[ids > 0])
        ]
        return ids.astype(np.int32), infos

    base = np.repeat(np.repeat(rng.integers(0, 5, (3, 4)), 6, 0), 5, 1)
    one, other = draw(base), draw(base)
    assert disagreement(one, other) == pytest.approx(slow(one, other), abs=1e-12)
    assert disagreement(one, other) == pytest.approx(disagreement(other, one), abs=1e-12)
