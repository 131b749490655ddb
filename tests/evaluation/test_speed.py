import pytest

from detr_d2.evaluation.speed import compare_speed, write_random_files


def test_all_ways_give_the_same_quality(tmp_path):
    pytest.importorskip("panopticapi")
    result = compare_speed(*write_random_files(tmp_path, 3, (48, 64)), rounds=1)
    qualities = list(result["pq"].values())
    assert len(qualities) == 5
    assert qualities == pytest.approx([qualities[0]] * 5, abs=1e-9)
    assert 0 < qualities[0] < 1
    assert all(len(times) == 1 for times in result["milliseconds"].values())
