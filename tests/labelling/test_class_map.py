"""What a model's classes become."""

import pytest
import yaml

from detr_d2.errors import UserError
from detr_d2.labelling import choose, map_classes, parse_classes, proposal
from detr_d2.labelling.class_map import ModelClass, Taken

GREY = (9, 9, 9)
CLASSES = [
    ModelClass(0, 1, "person", True, GREY),
    ModelClass(1, 8, "truck", True, GREY),
    ModelClass(2, 187, "sky-other-merged", False, (1, 2, 3)),
    ModelClass(3, 175, "wall: brick", False, GREY),
]
OWN = [{"id": 4, "name": "hammer", "isthing": 1}, {"id": 8, "name": "Sky", "isthing": 0}]


def mapped(content, least_score=0.0):
    return map_classes(content, "classes.yaml", CLASSES, OWN, least_score)


def test_classes_are_chosen_by_name_and_by_kind():
    names = [c.name for c in choose(CLASSES, ["truck"], stuff=True, things=False)]
    assert names == ["truck", "sky-other-merged", "wall: brick"]
    with pytest.raises(UserError, match="There is no class lorry: the classes are person, truck"):
        choose(CLASSES, ["lorry"], stuff=False, things=True)


def test_the_proposal_is_a_class_file():
    text = proposal(CLASSES, OWN)
    assert "sky-other-merged: Sky  # yours\n" in text and "person: person  # new\n" in text
    content = parse_classes(text, "it")
    assert content["wall: brick"] == "wall: brick"
    found = mapped(content)
    assert found.taken[2] == Taken(8, False, 0.0)
    assert [(c["id"], c["name"], c["isthing"]) for c in found.categories] == [
        *((4, "hammer", 1), (8, "Sky", 0), (1, "person", 1), (9, "truck", 1)),
        (175, "wall: brick", 0),
    ]
    assert found.categories[-1]["color"] == [9, 9, 9]


def test_things_and_stuff_become_a_background():
    to = {"to": "background", "isthing": 0}
    found = mapped({"person": to, "wall: brick": "background", "truck": None})
    assert found.categories[2:] == [
        {"id": 1, "name": "background", "isthing": 0, "color": [9, 9, 9]}
    ]
    assert found.taken == {0: Taken(1, False, 0.0), 3: Taken(1, False, 0.0)}


def test_a_thing_becomes_ones_own_stuff():
    assert mapped({"truck": "Sky"}).taken == {1: Taken(8, False, 0.0)}


def test_scores():
    found = mapped({"person": {"to": "hammer", "score": 0.9}, "truck": "hammer"}, 0.7)
    assert [taken.least_score for taken in found.taken.values()] == [0.9, 0.7]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"lorry": "Sky"}, "lorry is no class of the model, whose classes are person, truck"),
        ({"wall: brick": "hammer"}, "is stuff of the model, and hammer is a thing"),
        ({"person": 5}, "classes.yaml, person is 5: write the name of a class"),
        ({"person": {"to": "x", "least": 1}}, "write the name of a class"),
        ({"person": {"to": "x", "score": 2}}, "the score 2 is none"),
        ({"person": {"to": "x", "isthing": 3}}, "isthing is 3: use 0 or 1"),
        ({"person": {"to": "hammer", "isthing": 0}}, "isthing 0 is not what hammer is"),
    ],
)
def test_what_cannot_be(content, sentence):
    with pytest.raises(UserError, match=sentence):
        mapped(content)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "5"])
def test_no_class_file(text):
    with pytest.raises(UserError, match=r"^it (maps no class|is not valid YAML)"):
        parse_classes(text, "it")


def test_names_are_written_as_yaml_reads_them():
    classes = [ModelClass(0, 1, name, True, GREY) for name in ("yes", "3", "a # b", "ä")]
    assert [*yaml.safe_load(proposal(classes, OWN))] == ["yes", "3", "a # b", "ä"]
