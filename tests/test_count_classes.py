"""How many classes a dataset has, by its metadata: one advice, however it was registered."""

import pytest
from detectron2.data import MetadataCatalog

from detr_d2.classes import count_classes
from detr_d2.errors import UserError

NAME = "dataset_of_test_classes"


@pytest.fixture
def metadata():
    MetadataCatalog.pop(NAME, None)
    yield MetadataCatalog.get(NAME)
    MetadataCatalog.pop(NAME, None)


def ids(numbers) -> dict[int, int]:
    return {10 * n: n for n in numbers}


def test_a_standard_panoptic_dataset(metadata):
    metadata.set(
        thing_classes=["a", "b", "c"],
        thing_dataset_id_to_contiguous_id=ids([0, 1]),
        stuff_dataset_id_to_contiguous_id=ids([2]),
    )
    assert count_classes(NAME, panoptic=True) == count_classes(NAME, panoptic=False) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"thing_classes": ["a", "b"]},  # of the things alone
        {},  # no names at all
        {"thing_classes": ["a", "b"], "stuff_dataset_id_to_contiguous_id": ids([0])},
        {"thing_classes": ["a", "b", "c"], "stuff_dataset_id_to_contiguous_id": ids([7])},
    ],
)
def test_metadata_that_contradict_themselves_get_one_advice(metadata, changes):
    standard = {
        "thing_dataset_id_to_contiguous_id": ids([0, 1]),
        "stuff_dataset_id_to_contiguous_id": ids([2]),
    }
    metadata.set(**{**standard, **changes})
    with pytest.raises(
        UserError, match=r"has 2 things and 1 stuff .*DATASETS\.REGISTER.*NUM_CLASSES 3"
    ):
        count_classes(NAME, panoptic=True)


@pytest.mark.parametrize("panoptic", [True, False])
@pytest.mark.parametrize("kinds", [(), ("thing",)])
def test_no_number_is_advised_where_stuff_is_not_told(metadata, kinds, panoptic):
    names = {"thing_classes": ["a", "b"]} if kinds else {}
    known = {f"{kind}_dataset_id_to_contiguous_id": ids([0, 1]) for kind in kinds}
    metadata.set(panoptic_json="panoptic.json", **names, **known)
    with pytest.raises(UserError, match=r"no (thing_dataset.* and no )?stuff_dataset_id") as error:
        count_classes(NAME, panoptic)
    assert "DATASETS.REGISTER" in str(error.value) and "NUM_CLASSES" not in str(error.value)


def test_boxes_are_counted_by_their_names(metadata):
    assert count_classes(NAME, panoptic=False) is None
    metadata.set(thing_classes=["a", "b"])
    assert count_classes(NAME, panoptic=False) == 2
    # Things and stuff apart, as Detectron2's "separated" datasets have them.
    metadata.set(
        thing_dataset_id_to_contiguous_id=ids([0, 1]), stuff_dataset_id_to_contiguous_id=ids([0])
    )
    assert count_classes(NAME, panoptic=False) == 2
