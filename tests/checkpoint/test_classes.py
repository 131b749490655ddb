import pytest
import torch
from detectron2.data import MetadataCatalog

from detr_d2.checkpoint.classes import (
    COCO_PANOPTIC,
    COCO_PANOPTIC_RAW,
    COCO_THINGS,
    COCO_THINGS_RAW,
    HEAD,
    Classes,
    classes_of_dataset,
    coco_classes,
    describe_rows,
    match_rows,
    take_rows,
)
from detr_d2.checkpoint.layout import restore_unused, to_contiguous, to_official


def head(num_rows, d=4):
    """A head whose row r is r, r + 0.1, ..."""
    rows = torch.arange(float(num_rows))
    return {HEAD[0]: rows[:, None] + torch.arange(d) / 10, HEAD[1]: -rows}


def named(*class_names):
    return Classes(class_names, (None,) * len(class_names))


def test_coco():
    """Numbers of the published categories."""
    assert (len(COCO_THINGS), len(COCO_PANOPTIC)) == (80, 133)
    raw = COCO_THINGS_RAW
    assert (raw.names[1], raw.names[13], raw.names[90]) == ("person", "stop sign", "toothbrush")
    assert raw.unused == [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert (COCO_PANOPTIC_RAW.names[92], COCO_PANOPTIC_RAW.names[200]) == ("banner", "rug-merged")
    assert len(COCO_PANOPTIC_RAW.unused) == 250 - 133


def test_the_size_of_a_head_tells_coco():
    assert coco_classes(92) is COCO_THINGS_RAW
    assert coco_classes(251) is COCO_PANOPTIC_RAW
    assert coco_classes(81) == COCO_THINGS
    assert coco_classes(134) == COCO_PANOPTIC
    assert coco_classes(4) is None


def test_classes_of_datasets():
    assert classes_of_dataset("coco_2017_val") == COCO_THINGS
    assert classes_of_dataset("coco_2017_val_panoptic") == COCO_PANOPTIC
    MetadataCatalog.pop("test_classes_without", None)
    assert classes_of_dataset("test_classes_without") is None
    assert classes_of_dataset(None) is None


@pytest.mark.parametrize(
    ("raw", "contiguous"), [(COCO_THINGS_RAW, COCO_THINGS), (COCO_PANOPTIC_RAW, COCO_PANOPTIC)]
)
def test_coco_goes_by_category_id(raw, contiguous):
    backwards = Classes(tuple(f"name {i}" for i in contiguous.ids), contiguous.ids[::-1])
    by, rows = match_rows(raw, backwards)
    assert by == "category id"
    assert rows == list(contiguous.ids[::-1])
    assert match_rows(contiguous, raw)[1][-1] == (79 if raw is COCO_THINGS_RAW else None)


def test_ids_of_another_dataset_mean_nothing():
    target = Classes(("dog", "traffic_light", "wombat", "Car"), (1, 2, 3, 4))
    by, rows = match_rows(COCO_THINGS_RAW, target)
    assert by == "name"
    assert rows == [18, 10, None, 3]
    assert match_rows(Classes(("cat", "dog"), (1, 2)), Classes(("dog", "cow"), (1, 2)))[1] == [
        1,
        None,
    ]


def test_things_and_panoptic_share_names():
    by, rows = match_rows(COCO_THINGS, COCO_PANOPTIC)
    assert (by, rows) == ("name", [*range(80), *[None] * 53])


def test_rows_are_taken():
    initial = {HEAD[0]: torch.full((4, 4), -1.0), HEAD[1]: torch.full((4,), 100.0)}
    source = {name: tensor.half() for name, tensor in head(6).items()}
    taken = take_rows(source, [3, None, 0], initial)
    assert taken[HEAD[1]].tolist() == [-3, 100, 0, -5]  # the last is no-object
    assert taken[HEAD[0]][:, 0].tolist() == [3, -1, 0, 5]
    assert taken[HEAD[0]].dtype == torch.float32
    assert initial[HEAD[1]].tolist() == [100] * 4


def test_the_log_says_where_rows_came_from():
    source, target = named("cat", "dog"), named("dog", "cow")
    text = describe_rows("name", [1, None], source, target)
    assert "1 of 2 classes taken by name: dog (row 0 from 1: dog)" in text
    assert text.endswith("Freshly initialised: cow.")


@pytest.mark.parametrize("raw", [COCO_THINGS_RAW, COCO_PANOPTIC_RAW])
def test_unused_rows_are_kept_aside(raw):
    weights = {"other": torch.ones(1), **head(len(raw) + 1)}
    contiguous, classes, unused = to_contiguous(weights, raw)
    assert classes == raw.used
    assert contiguous[HEAD[1]].tolist() == [-id_ for id_ in classes.ids] + [-len(raw)]
    restored, again = restore_unused(contiguous, classes, unused)
    assert again == raw
    assert restored.keys() == weights.keys()
    assert all(torch.equal(restored[name], weights[name]) for name in weights)


def test_nothing_is_unused_in_contiguous_heads():
    weights = head(3)
    assert to_contiguous(weights, named("a", "b")) == (weights, named("a", "b"), {})
    assert to_official(weights, named("a", "b")) == (weights, named("a", "b"))


@pytest.mark.parametrize("classes", [COCO_THINGS, COCO_PANOPTIC])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_official_rows_give_the_same_probabilities(classes, dtype):
    weights = {name: t.to(dtype) for name, t in head(len(classes) + 1).items()}
    official, raw = to_official(weights, classes)
    assert len(official[HEAD[1]]) == len(raw) + 1
    assert official[HEAD[0]].dtype == dtype
    x = torch.tensor([-0.01, 0.02, 0.005, -0.01])
    ours = torch.softmax(weights[HEAD[0]].float() @ x + weights[HEAD[1]].float() / 50, 0)
    logits = official[HEAD[0]].float() @ x + official[HEAD[1]].float() / 50
    theirs = torch.softmax(logits, 0)
    torch.testing.assert_close(theirs[[*classes.ids, -1]], ours)
    assert theirs[raw.unused].eq(0).all()
