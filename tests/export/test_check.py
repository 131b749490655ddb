"""What is said of an exported file: alike, alike but for rounding, or not."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from exporting import NARROW, config_of, pictures

from detr_d2.engine import Predictor
from detr_d2.export import Resize, TracingAdapter
from detr_d2.export.check import Allowed, Compared, Differences, compare, pixels_apart
from detr_d2.export.check_table import table_of

STRICT = Allowed(boxes=1e-4, scores=1e-5, pixels=10_000)
NOTHING = Differences(0.0, 0.0)


def segments(*classes: int) -> list[dict]:
    return [{"id": n, "category_id": c, "score": 0.9} for n, c in enumerate(classes, 1)]


def slow_pixels_apart(one, other) -> int:
    """Pixel by pixel, of maps where a segment shares most with the one that shares most with it."""
    classes = [{0: None, **{s["id"]: s["category_id"] for s in infos}} for _, infos in (one, other)]
    pairs = list(zip(one[0].ravel().tolist(), other[0].ravel().tolist()))
    counts = Counter(pairs)
    partner = {a: max(counts, key=lambda p: (p[0] == a, counts[p]))[1] for a, _ in pairs}
    return sum(classes[0][a] != classes[1][b] or partner[a] != b for a, b in pairs)


def test_pixels_of_other_segments_are_counted_whatever_their_ids():
    ids = np.repeat([[0, 1, 2, 3]], 5, 0).repeat(2, 1)
    one = ids, segments(4, 5, 4)
    assert pixels_apart(one, one) == 0
    turned = np.array([0, 3, 1, 2])[ids], segments(5, 4, 4)
    assert pixels_apart(one, turned) == 0
    moved = ids.copy()
    moved[0, 2:4], moved[1, 0] = 2, 1
    for other in ((moved, one[1]), (ids, segments(4, 6, 4)), (np.minimum(ids, 2), segments(4, 5))):
        assert pixels_apart(one, other) == slow_pixels_apart(one, other) > 0
    nothing = np.zeros_like(ids), []
    assert pixels_apart(nothing, nothing) == 0 and pixels_apart(one, nothing) == 30


@pytest.mark.parametrize(
    "found, within",
    [
        (NOTHING, True),
        (Differences(1e-4, 1e-5, 2), True),
        (Differences(2e-4, 0.0), False),
        (Differences(0.0, 2e-5), False),
        (Differences(0.0, 0.0, 3), False),
        (Differences(math.inf, math.inf), False),
    ],
)
def test_what_is_allowed(found, within):
    compared = Compared((100, 120), 3, 2, found, STRICT)
    assert compared.within == compared.agrees == within
    assert (" NO " in table_of([compared])) == (not within)


def test_rounding_is_told_from_mistakes():
    wrong = Compared((100, 120), 3, 2, Differences(0.0, 5e-5, 40), STRICT)
    near, far = Differences(0.0, 4e-5, 30), Differences(0.0, 1e-4, 30)
    rounding = replace(wrong, exact=(near, near))
    assert rounding.agrees and not rounding.within and "| rounding" in table_of([rounding])
    assert "the model in float32" in table_of([rounding])
    mistake = replace(wrong, exact=(far, near))
    assert not mistake.agrees and "| NO" in table_of([mistake])


def test_rounding_is_asked_of_what_is_beyond_the_bounds_alone():
    """Scores that agree do not condemn a file whose map is nearer to float64 than the model's."""
    found = Differences(0.0, 5e-6, 40)
    ours, theirs = Differences(0.0, 4e-6, 0), Differences(0.0, 1e-6, 40)
    compared = Compared((100, 120), 3, 2, found, STRICT, exact=(ours, theirs))
    assert compared.rounding and not compared.within
    assert not replace(compared, exact=(replace(ours, pixels=81), theirs)).rounding


def test_fewer_bits_are_judged_by_whole_maps():
    coarse = Allowed(disagreement=0.1)
    found = Differences(math.inf, math.inf, 900, 0.05)
    assert Compared((100, 120), 3, 2, found, coarse).agrees
    assert not Compared((100, 120), 3, 2, replace(found, disagreement=0.2), coarse).agrees


def test_float64_is_asked_where_more_differs_than_is_allowed(shapes):
    predictor = Predictor(config_of(NARROW))
    adapter = TracingAdapter(predictor.model, Resize(0, 0)).eval()
    wrong = {"scores": 0.0}

    @torch.no_grad()
    def run(batch: np.ndarray) -> dict:
        found = dict(zip(adapter.outputs, (t.numpy() for t in adapter(torch.from_numpy(batch)))))
        return {**found, "scores": found["scores"] + np.float32(wrong["scores"])}

    metadata = {"batch_size": 1, "input_format": "RGB", "dtype": "uint8", "precision": "float32"}
    metadata["classes"] = [{"isthing": False}] * 8
    picture = pictures(shapes)[1:2]
    assert compare(predictor, run, metadata, picture)[0].exact is None
    wrong["scores"] = 1e-3
    (compared,) = compare(predictor, run, metadata, picture)
    ours, theirs = compared.exact
    assert ours.scores == pytest.approx(1e-3, rel=0.1) and theirs.scores < 1e-5
    assert theirs.pixels < 10 and not compared.agrees
