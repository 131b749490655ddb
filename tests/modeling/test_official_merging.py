"""The official stuff rule, by hand and against a plain retelling of the official steps."""

import numpy as np
import pytest
import torch
from merging import merge
from PIL import Image

IS_THING = torch.tensor([True, True, False, False])


def official_steps(logits, classes, is_thing, output_size, small_segment_area):
    """(H, W) numbers of queries, -1 where none is left; one step after the other, on numpy."""
    queries = list(range(len(classes)))
    merge = True
    while queries:
        winners = np.array(queries)[logits[queries].argmax(0)]
        if merge:
            for label in {c for c in classes if not is_thing[c]}:
                same = [q for q in range(len(classes)) if classes[q] == label]
                winners[np.isin(winners, same)] = same[0]
        image = Image.fromarray(winners.astype(np.uint8))
        final = np.array(image.resize(output_size[::-1], Image.Resampling.NEAREST))
        small = [q for q in queries if (final == q).sum() <= small_segment_area]
        if not small:
            return final.astype(int)
        queries = [q for q in queries if q not in small]
        merge = False
    return np.full(output_size, -1)


def test_the_pixels_of_the_second_stuff_query_go_to_the_runner_up():
    # One row: query 0 (stuff 2) wins the left 4 pixels, query 1 (stuff 2) the middle 4, query 2
    # (a thing) the right 4. In the middle, the thing comes second.
    rows = [[9] * 4 + [1] * 4 + [0] * 4, [0] * 4 + [9] * 4 + [1] * 4, [1] * 4 + [5] * 4 + [9] * 4]
    logits = torch.tensor(rows, dtype=torch.float32)[:, None]
    arguments = (torch.tensor([2, 2, 0]), torch.tensor([0.5, 0.75, 1]), IS_THING, (1, 12), 1)
    united, _ = merge(logits, *arguments)
    official, infos = merge(logits, *arguments, official_stuff_rule=True)
    assert united.tolist() == [[1] * 8 + [2] * 4]
    assert official.tolist() == [[1] * 4 + [2] * 8]
    found = [(i["category_id"], i["area"], i["score"]) for i in infos]
    assert found == [(2, 4, 0.5), (0, 8, 1.0)]  # the removed query's score does not count


def test_both_rules_agree_where_no_stuff_class_has_two_queries():
    logits = torch.randn(4, 9, 11)
    arguments = (torch.tensor([0, 2, 0, 3]), torch.full((4,), 0.9), IS_THING, (18, 22), 4)
    united = merge(logits, *arguments)
    official = merge(logits, *arguments, official_stuff_rule=True)
    assert torch.equal(united[0], official[0]) and united[1] == official[1]


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_official_steps(seed):
    rng = np.random.default_rng(seed)
    k, (h, w), size = rng.integers(1, 9), rng.integers(2, 9, 2), tuple(rng.integers(2, 14, 2))
    size = (int(size[0]), int(size[1]))
    # Smooth maps, so that there are large segments and small ones.
    logits = rng.normal(size=(k, 1, 1)) + rng.normal(size=(k, h, 1)) + rng.normal(size=(k, 1, w))
    classes = rng.integers(0, 4, k)
    seg, infos = merge(
        torch.from_numpy(logits),
        torch.from_numpy(classes),
        torch.ones(k),
        IS_THING,
        size,
        4,
        official_stuff_rule=True,
    )
    expected = official_steps(logits, classes.tolist(), IS_THING.tolist(), size, 4)
    queries = sorted(set(expected.ravel().tolist()) - {-1})
    numbers = {-1: 0} | {q: n for n, q in enumerate(queries, 1)}
    assert seg.tolist() == [[numbers[q] for q in row] for row in expected.tolist()]
    assert [i["category_id"] for i in infos] == [classes[q] for q in queries]
