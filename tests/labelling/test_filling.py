"""A person's segments stay, and a model's fill the rest."""

import numpy as np
import pytest

from detr_d2.data.preparation import Annotation
from detr_d2.errors import UserError
from detr_d2.labelling import ClassMap, Filling
from detr_d2.labelling.class_map import Taken

CAR, ROAD, SKY = 3, 7, 9  # ids of the dataset
CLASSES = ClassMap(
    [],
    {
        0: Taken(CAR, True, 0.6),
        1: Taken(ROAD, False, 0.0),
        2: Taken(SKY, False, 0.0),
        3: Taken(SKY, False, 0.9),  # two classes of the model are one of the dataset
    },
)


def person(segment_map, *segments) -> Annotation:
    infos = [
        {"id": t, "category_id": category, "iscrowd": 0, **more}
        for t, (category, more) in enumerate(segments, 1)
    ]
    return Annotation(np.array(segment_map, dtype=np.uint16), infos)


def found(id_, class_, score=0.8) -> dict:
    return {"id": id_, "category_id": class_, "score": score}


def segments_of(annotation: Annotation) -> list[tuple]:
    """(category, source, score, pixels) of each, and no pixel is of none."""
    segments = []
    for info in annotation.segments_info:
        pixels = annotation.segment_map == info["id"]
        assert info["area"] == np.count_nonzero(pixels) > 0
        segments.append((info["category_id"], info["source"], info.get("score"), pixels.tolist()))
    assert annotation.segment_map.max() == len(segments)
    return segments


def test_the_person_wins_and_the_model_fills_the_rest():
    human = person([[1, 1, 0, 0], [0, 0, 0, 0]], (CAR, {}))
    found_map = np.array([[4, 5, 5, 5], [4, 4, 6, 0]])
    filled = Filling(CLASSES)(human, found_map, [found(4, 1), found(5, 2), found(6, 0)], "it")
    assert filled.segment_map.tolist() == [[1, 1, 3, 3], [2, 2, 4, 0]]
    assert [s[:3] for s in segments_of(filled)] == [
        (CAR, "human", None),
        (ROAD, "model", 0.8),
        (SKY, "model", 0.8),
        (CAR, "model", 0.8),
    ]
    assert not filled.remarks


@pytest.mark.parametrize(
    ("most_lost", "stays"), [(0.74, False), (0.75, True), (1, True), (0, False)]
)
def test_what_loses_too_much_is_left_out(most_lost, stays):
    human = person([[1, 1, 1, 0]], (CAR, {}))
    filled = Filling(CLASSES, most_lost)(human, np.full((1, 4), 8), [found(8, 0)], "it")
    assert filled.segment_map.tolist() == [[1, 1, 1, 2 if stays else 0]]
    lost = "segments of the model lie too much on what a person annotated: left out"
    assert filled.remarks == ({} if stays else {lost: 1})


def test_a_segment_without_room_is_no_segment():
    human = person([[1, 1]], (CAR, {}))
    filled = Filling(CLASSES, 1)(human, np.full((1, 2), 8), [found(8, 0)], "it")
    assert len(segments_of(filled)) == 1


def test_the_unsure_and_the_unasked_are_void():
    human = person([[0, 0, 0]])
    infos = [found(1, 0, 0.59), found(2, 0, 0.6), found(3, 5)]
    filled = Filling(CLASSES)(human, np.array([[1, 2, 3]]), infos, "it")
    assert filled.segment_map.tolist() == [[0, 1, 0]]
    assert filled.remarks == {"segments of the model score too little: VOID": 1}


def test_stuff_that_becomes_one_class_is_one_segment_and_as_unsure_as_its_parts():
    human = person([[0, 0, 0]])
    infos = [found(1, 2, 0.7), found(2, 3, 0.95), found(3, 3, 0.89)]
    filled = Filling(CLASSES)(human, np.array([[1, 2, 3]]), infos, "it")
    assert filled.segment_map.tolist() == [[1, 1, 0]]
    assert segments_of(filled)[0][:3] == (SKY, "model", 0.7)


def test_things_of_one_class_stay_apart():
    human = person([[0, 0]])
    filled = Filling(CLASSES)(human, np.array([[1, 2]]), [found(1, 0), found(2, 0)], "it")
    assert filled.segment_map.tolist() == [[1, 2]]


def test_stuff_ends_where_the_person_has_ended_it():
    human = person([[1, 0, 0]], (ROAD, {}))
    infos = [found(1, 1), found(2, 0)]
    filled = Filling(CLASSES)(human, np.array([[1, 1, 2]]), infos, "it")
    assert filled.segment_map.tolist() == [[1, 0, 2]]
    assert sum(filled.remarks.values()) == 1


def test_what_a_model_had_made_is_made_anew():
    human = person([[1, 2]], (CAR, {"source": "human"}), (ROAD, {"source": "model", "score": 0.1}))
    filled = Filling(CLASSES)(human, np.array([[0, 6]]), [found(6, 2)], "it")
    assert [s[:3] for s in segments_of(filled)] == [(CAR, "human", None), (SKY, "model", 0.8)]


def test_a_model_that_gives_no_score_is_believed():
    info = {"id": 1, "category_id": 0}
    filled = Filling(CLASSES)(person([[0]]), np.array([[1]]), [info], "it")
    assert "score" not in filled.segments_info[0]


def test_no_share():
    with pytest.raises(UserError, match=r"--most-lost 1\.5 is no share"):
        Filling(CLASSES, 1.5)


def test_every_pixel_is_as_a_loop_over_pixels_has_it():
    random = np.random.default_rng(0)
    for _ in range(30):
        found_map = random.integers(0, 7, (6, 8))
        infos = [found(id_, int(random.integers(0, 4)), random.random()) for id_ in range(1, 7)]
        human_map = np.where(random.random((6, 8)) < 0.3, random.integers(1, 3, (6, 8)), 0)
        human = person(human_map, (CAR, {}), (ROAD, {}))
        filled = Filling(CLASSES, 0.3)(human, found_map, infos, "it")
        categories = [None, *(info["category_id"] for info in filled.segments_info)]
        for row, column in np.ndindex(6, 8):
            result = int(filled.segment_map[row, column])
            assert categories[result] == expected(human_map, found_map, infos, row, column, 0.3)


def expected(human_map, found_map, infos, row, column, most_lost):
    """The category of a pixel, None for VOID."""
    if human_map[row, column]:
        return [CAR, ROAD][human_map[row, column] - 1]
    segment = next((info for info in infos if info["id"] == found_map[row, column]), None)
    if segment is None:
        return None
    taken = CLASSES.taken[segment["category_id"]]
    pixels = [p for p in np.ndindex(6, 8) if found_map[p] == segment["id"]]
    lost = sum(human_map[p] > 0 for p in pixels)
    if segment["score"] < taken.least_score or lost > most_lost * len(pixels):
        return None
    if taken.category_id == ROAD and (human_map == 2).any():
        return None
    return taken.category_id


def test_a_second_model_agrees_in_a_share_of_the_pixels():
    """Those that the segment is left with; a person's segments are not doubted."""
    human = person([[1, 0, 0, 0, 0]], (CAR, {}))
    found_map = np.array([[4, 4, 4, 4, 5]])
    second = np.array([[ROAD, ROAD, SKY, ROAD, 0]])
    filling = Filling(CLASSES)
    filled = filling(human, found_map, [found(4, 1), found(5, 2)], "it", second)
    said = [(s["source"], s.get("agreement")) for s in filled.segments_info]
    assert said == [("human", None), ("model", round(2 / 3, 4)), ("model", 0.0)]
