import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T

from detr_d2.classes import PanopticClasses
from detr_d2.data import PanopticFPNDatasetMapper
from detr_d2.data.registration import load_panoptic_json
from detr_d2.errors import UserError

VOID = 255
BOTH = PanopticClasses(things=[0], stuff=[1])


def map_tiny(folder, *augmentations, classes=BOTH, **options):
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    things = {3: classes.things[0]} if classes.things else {}
    stuff = dict(zip((9, 3), classes.stuff))
    (dataset_dict,) = load_panoptic_json(*map(str, paths), things=things, stuff=stuff)
    mapper = PanopticFPNDatasetMapper(
        augmentations=list(augmentations),
        image_format="RGB",
        classes=classes,
        ignore_value=VOID,
        **options,
    )
    return mapper(dataset_dict)


EXPECTED = [
    [VOID, VOID, VOID, VOID, VOID, VOID],
    [VOID, 0, 0, VOID, VOID, VOID],
    [1, 0, 0, 1, 1, 1],
    [1, 1, 1, 1, 1, 1],
]


def test_things_and_stuff_are_those_of_the_png(tiny_dataset):
    folder, _ = tiny_dataset
    mapped = map_tiny(folder)
    assert mapped["sem_seg"].dtype == torch.int64 and mapped["sem_seg"].tolist() == EXPECTED
    instances = mapped["instances"]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_boxes.tensor.tolist() == [[1, 1, 3, 3]]
    assert torch.equal(instances.gt_masks.tensor[0], torch.tensor(EXPECTED) == 0)
    assert "segment_map" not in mapped


def test_classes_are_numbered_in_their_own_order(tiny_dataset):
    """Where stuff comes first in the contiguous classes, as in Cityscapes."""
    folder, _ = tiny_dataset
    mapped = map_tiny(folder, classes=PanopticClasses(things=[7, 8], stuff=[2, 5]))
    assert mapped["instances"].gt_classes.tolist() == [0]
    assert mapped["sem_seg"].tolist() == EXPECTED
    mapped = map_tiny(folder, classes=PanopticClasses(things=[7], stuff=[5]))
    assert mapped["sem_seg"].tolist() == EXPECTED


def test_crowds_are_things_without_an_instance(tiny_dataset):
    folder, write = tiny_dataset
    content = write()
    content["annotations"][0]["segments_info"][0]["iscrowd"] = 1
    write(annotations=content["annotations"])
    mapped = map_tiny(folder)
    assert len(mapped["instances"]) == 0
    assert mapped["instances"].gt_masks.tensor.shape == (0, 4, 6)
    assert mapped["sem_seg"].tolist() == EXPECTED


def test_an_image_without_segments_is_void(tiny_dataset):
    folder, write = tiny_dataset
    content = write()
    content["annotations"][0]["segments_info"] = []
    write(ids=np.zeros((4, 6), int), annotations=content["annotations"])
    mapped = map_tiny(folder)
    assert len(mapped["instances"]) == 0 and mapped["instances"].gt_boxes.tensor.shape == (0, 4)
    assert (mapped["sem_seg"] == VOID).all()


def test_all_stuff_and_all_things(tiny_dataset):
    folder, _ = tiny_dataset
    stuff = map_tiny(folder, classes=PanopticClasses(things=[], stuff=[0, 1]))
    assert len(stuff["instances"]) == 0
    assert stuff["sem_seg"][1, 1] == 2 and stuff["sem_seg"][3, 0] == 1


def test_weights_are_refused(tiny_dataset):
    with pytest.raises(UserError, match=r"MODEL_LABEL_WEIGHT is 0\.5, which Panoptic FPN's"):
        map_tiny(tiny_dataset[0], model_label_weight=0.5)


def test_masks_boxes_and_map_move_together(tiny_dataset):
    folder, _ = tiny_dataset
    mapped = map_tiny(folder, T.RandomFlip(1.0), T.Resize((8, 12)))
    expected = torch.tensor(EXPECTED).flip(1).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(mapped["sem_seg"], expected)
    assert torch.equal(mapped["instances"].gt_masks.tensor[0], expected == 0)
    boxes = mapped["instances"].gt_masks.get_bounding_boxes()
    assert torch.equal(mapped["instances"].gt_boxes.tensor, boxes.tensor)
    assert boxes.tensor.tolist() == [[6, 2, 10, 6]]


def test_numbers_are_those_of_detectron2s_separated_coco():
    """So that weights of its model zoo mean the same classes."""
    standard = MetadataCatalog.get("coco_2017_train_panoptic")
    separated = MetadataCatalog.get("coco_2017_train_panoptic_separated")
    for kind, first in (("thing", 0), ("stuff", 1)):
        key = f"{kind}_dataset_id_to_contiguous_id"
        class_of = standard.get(key)
        number_of = {c: n for n, c in enumerate(sorted(class_of.values()), first)}
        theirs = {id_: n for id_, n in separated.get(key).items() if id_ != 0}
        assert {id_: number_of[c] for id_, c in class_of.items()} == theirs
