"""Matching and verdicts, against plain recomputations and panopticapi."""

import numpy as np
import pytest
import torch
from panoptic_png import id2rgb
from PIL import Image
from scipy.optimize import linear_sum_assignment

from detr_d2.explain.ground_truth import (
    GroundTruth,
    matched_pairs,
    read_ground_truth,
    verdicts,
)
from detr_d2.modeling.matcher import HungarianMatcher


def truth_of(segment_map, classes, crowds=()) -> GroundTruth:
    is_crowd = np.array([t in crowds for t in range(len(classes))])
    return GroundTruth(np.array(segment_map, dtype=np.int32), np.array(classes), is_crowd)


def info_of(classes) -> list[dict]:
    return [{"id": i, "category_id": c} for i, c in enumerate(classes, 1)]


def test_ground_truth_is_read(tiny_dataset):
    folder, _ = tiny_dataset
    infos = [{"id": 300, "category_id": 1, "iscrowd": 1}, {"id": 7, "category_id": 0}]
    path = str(folder / "panoptic" / "a.png")
    truth = read_ground_truth({"pan_seg_file_name": path, "image_id": 5, "segments_info": infos})
    assert truth.segment_map[2].tolist() == [1, 2, 2, 1, 1, 1]
    assert truth.classes.tolist() == [1, 0]
    assert truth.is_crowd.tolist() == [True, False]


def test_a_hit_a_miss_a_false_alarm_by_hand():
    truth = truth_of([[1, 1, 1, 2], [1, 1, 0, 2]], [4, 5])
    predicted = torch.tensor([[1, 1, 1, 1], [1, 1, 2, 2]])
    hit, miss, alarm = verdicts(predicted, info_of([4, 6]), truth)
    assert (hit.verdict, hit.segment, hit.predicted_id) == ("hit", 0, 1)
    assert hit.iou == pytest.approx(5 / 6)
    assert (miss.verdict, miss.segment, miss.predicted_id, miss.iou) == ("miss", 1, None, 0)
    assert (alarm.verdict, alarm.segment, alarm.predicted_id) == ("false alarm", None, 2)


def test_void_and_crowd_are_excused():
    truth = truth_of([[0, 0, 0, 1], [2, 2, 2, 1]], [4, 5], crowds=[1])
    predicted = torch.tensor([[1, 1, 1, 1], [2, 2, 2, 3]])
    found = {
        (v.segment, v.predicted_id): v.verdict
        for v in verdicts(predicted, info_of([6, 5, 4]), truth)
    }
    # Segment 0 and id 3 share one of two pixels: not more than half.
    assert found == {
        (0, None): "miss",
        (1, None): "ignored",
        (None, 1): "ignored",
        (None, 2): "ignored",
        (None, 3): "false alarm",
    }


def test_nothing_predicted():
    (miss,) = verdicts(torch.zeros(2, 2, dtype=torch.int32), [], truth_of([[1, 1], [1, 1]], [0]))
    assert (miss.verdict, miss.iou) == ("miss", 0)


def test_counts_are_panopticapis(tmp_path):
    """On random maps of blocks, VOID and crowds included."""
    categories = {c: {"id": c, "isthing": 1} for c in range(3)}
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        blocks = rng.integers(0, 5, (4, 4))
        changed = np.where(rng.random((4, 4)) < 0.7, blocks, rng.integers(0, 5, (4, 4)))
        segment_map = np.unique(blocks, return_inverse=True)[1].reshape(4, 4).repeat(3, 0)
        predicted = np.unique(changed, return_inverse=True)[1].reshape(4, 4).repeat(3, 0)
        classes = rng.integers(0, 3, segment_map.max())
        labels = rng.integers(0, 3, predicted.max())
        crowds = [0] if rng.random() < 0.3 else []
        found = verdicts(
            torch.from_numpy(predicted), info_of(labels), truth_of(segment_map, classes, crowds)
        )
        stat = of_panopticapi(tmp_path, segment_map, classes, crowds, predicted, labels, categories)
        count = {kind: sum(v.verdict == kind for v in found) for kind in ("hit", "miss")}
        alarms = sum(v.verdict == "false alarm" for v in found)
        totals = [sum(getattr(stat[c], k) for c in categories) for k in ("tp", "fn", "fp", "iou")]
        assert [count["hit"], count["miss"], alarms] == totals[:3]
        ious = sum(v.iou for v in found if v.verdict == "hit")
        assert ious == pytest.approx(totals[3])
        seen.update(v.verdict for v in found)
    assert seen == {"hit", "miss", "false alarm", "ignored"}


def of_panopticapi(folder, segment_map, classes, crowds, predicted, labels, categories):
    def annotation(name, ids, classes, crowds=()):
        Image.fromarray(id2rgb(ids)).save(folder / name)
        infos = [
            {
                "id": i + 1,
                "category_id": int(c),
                "iscrowd": int(i in crowds),
                "area": int((ids == i + 1).sum()),
            }
            for i, c in enumerate(classes)
        ]
        return {"image_id": 1, "file_name": name, "segments_info": infos}

    pair = (
        annotation("truth.png", segment_map, classes, crowds),
        annotation("predicted.png", predicted, labels),
    )
    evaluation = pytest.importorskip("panopticapi.evaluation")
    return evaluation.pq_compute_single_core(0, [pair], str(folder), str(folder), categories)


def test_pairs_have_the_least_cost_and_its_parts():
    """By brute force over all costs; here the parts are summed by hand."""
    segment_map = np.zeros((10, 20), dtype=np.int32)
    segment_map[2:6, 4:10], segment_map[6:, 10:] = 1, 2
    truth = truth_of(segment_map, [0, 2])
    logits, boxes = torch.randn(6, 4).double(), torch.rand(6, 4).double()
    matcher = HungarianMatcher(cost_class=1.5, cost_l1=5, cost_giou=2)
    pairs = matched_pairs({"logits": logits, "boxes": boxes}, truth, matcher)

    wanted = torch.tensor([[0.35, 0.4, 0.3, 0.4], [0.75, 0.8, 0.5, 0.4]]).double()
    cost_class = -1.5 * logits.softmax(1)[:, [0, 2]]
    cost_l1 = 5 * (boxes[:, None] - wanted).abs().sum(2)
    cost_giou = torch.tensor([[-2 * giou(a, b) for b in wanted.tolist()] for a in boxes.tolist()])
    total = cost_class + cost_l1 + cost_giou
    queries, segments = linear_sum_assignment(total)
    assert sorted((p.query, p.segment) for p in pairs) == sorted(zip(queries, segments))
    assert [p.cost for p in pairs] == sorted((p.cost for p in pairs), reverse=True)
    for pair in pairs:
        at = pair.query, pair.segment
        assert pair.cost_class == pytest.approx(cost_class[at].item())
        assert pair.cost_l1 == pytest.approx(cost_l1[at].item(), rel=1e-6)
        assert pair.cost_giou == pytest.approx(cost_giou[at].item(), rel=1e-6)
        assert pair.cost == pytest.approx(total[at].item(), rel=1e-6)


def giou(a, b) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    overlap = max(0, right - left) * max(0, bottom - top)
    union = aw * ah + bw * bh - overlap
    width = max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)
    height = max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    return overlap / union - (width * height - union) / (width * height)
