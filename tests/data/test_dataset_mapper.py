import json

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from PIL import Image

from detr_d2 import add_detr_config
from detr_d2.data import PanopticDatasetMapper
from detr_d2.data.dataset_mapper import InferenceDatasetMapper
from detr_d2.data.registration import load_panoptic_json
from detr_d2.errors import UserError


def map_tiny(folder, *augmentations, **options):
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    (dataset_dict,) = load_panoptic_json(*map(str, paths), things={3: 0}, stuff={9: 1})
    mapper = PanopticDatasetMapper(augmentations=list(augmentations), image_format="RGB", **options)
    return mapper(dataset_dict)


def test_boxes_and_map_are_those_of_the_png(tiny_dataset):
    folder, _ = tiny_dataset
    mapped = map_tiny(folder)
    assert mapped["image"].shape == (3, 4, 6) and mapped["image"].dtype == torch.uint8
    assert mapped["image"][:, 0, 1].tolist() == [3, 4, 5]  # RGB
    assert mapped["instances"].gt_classes.tolist() == [0, 1]
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[1, 1, 3, 3], [0, 2, 6, 4]]
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [2, 1, 1, 2, 2, 2],
        [2, 2, 2, 2, 2, 2],
    ]
    assert mapped["segment_map"].tolist() == expected
    assert "segments_info" not in mapped


def test_flip_moves_image_map_and_boxes_together(tiny_dataset):
    folder, _ = tiny_dataset
    plain, flipped = map_tiny(folder), map_tiny(folder, T.RandomFlip(1.0))
    assert torch.equal(flipped["image"], plain["image"].flip(2))
    assert torch.equal(flipped["segment_map"], plain["segment_map"].flip(1))
    assert flipped["instances"].gt_boxes.tensor.tolist() == [[3, 1, 5, 3], [0, 2, 6, 4]]


class CropTop(T.Augmentation):
    def get_transform(self, image):
        return T.CropTransform(0, 3, image.shape[1], 1)  # the last row alone


def test_segments_that_a_crop_loses_leave_no_gap(tiny_dataset):
    folder, _ = tiny_dataset
    mapped = map_tiny(folder, CropTop())
    assert mapped["instances"].gt_classes.tolist() == [1]
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, 6, 1]]
    assert mapped["segment_map"].tolist() == [[1] * 6]
    assert (mapped["height"], mapped["width"]) == (4, 6)


def test_resizing_by_two_doubles_the_boxes(tiny_dataset):
    folder, _ = tiny_dataset
    mapped = map_tiny(folder, T.Resize((8, 12)))
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[2, 2, 6, 6], [0, 4, 12, 8]]
    assert mapped["segment_map"].shape == (8, 12)


def test_an_image_without_segments_can_be_trained_on(tiny_dataset):
    folder, write = tiny_dataset
    content = write()
    content["annotations"][0]["segments_info"] = []
    write(ids=np.zeros((4, 6), int), annotations=content["annotations"])
    mapped = map_tiny(folder)
    assert len(mapped["instances"]) == 0
    assert mapped["instances"].gt_boxes.tensor.shape == (0, 4)
    assert not mapped["segment_map"].any()


def test_a_models_segments_have_their_weight(half_seen):
    assert not map_tiny(half_seen)["instances"].has("gt_weights")
    for augmentations, weights in (([], [0.25, 1.0]), ([CropTop()], [1.0])):
        instances = map_tiny(half_seen, *augmentations, model_label_weight=0.25)["instances"]
        assert instances.gt_weights.tolist() == weights
        assert instances.gt_weights.dtype == torch.float32


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_wrong_weight_is_one_sentence(weight):
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.INPUT.MODEL_LABEL_WEIGHT = weight
    with pytest.raises(UserError, match="MODEL_LABEL_WEIGHT is"):
        PanopticDatasetMapper(cfg)


def test_more_than_255_segments(tiny_dataset):
    folder, write = tiny_dataset
    ids = np.arange(1, 401).reshape(20, 20)
    content = write(ids=ids)
    info = content["annotations"][0]["segments_info"][0]
    content["annotations"][0]["segments_info"] = [{**info, "id": i} for i in range(1, 401)]
    write(ids=ids, annotations=content["annotations"])
    mapped = map_tiny(folder, T.Resize((40, 40)))
    assert len(mapped["instances"]) == 400
    assert mapped["segment_map"][-1, -1] == 400


def test_sizes_that_differ_are_named(tiny_dataset):
    folder, write = tiny_dataset
    write(image_size=(5, 6))
    with pytest.raises(UserError, match=r"a\.png \(image 5\) is 6 x 4 pixels.*is 6 x 5"):
        map_tiny(folder)


def test_a_segment_that_only_the_png_has_is_named(tiny_dataset):
    folder, write = tiny_dataset
    ids = np.full((4, 6), 7)
    ids[0], ids[1] = 9, 300
    write(ids=ids)
    with pytest.raises(UserError, match=r"a\.png \(image 5\).*a segment 9 that"):
        map_tiny(folder)


def turned_tiff(folder):
    """The image of the tiny dataset as a TIFF that is stored on its side."""
    pixels = np.asarray(Image.open(folder / "images/a.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(pixels)).save(folder / "images/a.tif", exif=exif)
    return pixels


def test_a_turned_tiff_trains_as_it_is_seen(tiny_dataset):
    folder, write = tiny_dataset
    pixels = turned_tiff(folder)
    write(images=[{"id": 5, "file_name": "a.tif", "height": 4, "width": 6}])
    mapped = map_tiny(folder)
    assert np.array_equal(mapped["image"].permute(1, 2, 0).numpy(), pixels)


def test_inference_reads_the_same_image(tiny_dataset):
    folder, _ = tiny_dataset
    pixels = turned_tiff(folder)
    mapper = InferenceDatasetMapper(augmentations=[T.Resize((8, 12))], image_format="BGR")
    dataset_dict = {"file_name": str(folder / "images/a.tif"), "image_id": 5, "annotations": []}
    dataset_dict |= {"pan_seg_file_name": "a.png", "segments_info": []}
    mapped = mapper(dataset_dict)
    assert set(mapped) == {*dataset_dict, "height", "width", "image"} - {"annotations"}
    assert (mapped["height"], mapped["width"], *mapped["image"].shape) == (4, 6, 3, 8, 12)
    plain = InferenceDatasetMapper(augmentations=[], image_format="BGR")(dataset_dict)
    assert np.array_equal(plain["image"].permute(1, 2, 0).numpy(), pixels[..., ::-1])


def test_a_size_that_the_json_has_wrong_is_named_at_inference(tiny_dataset):
    folder, _ = tiny_dataset
    dataset_dict = {"file_name": str(folder / "images/a.png"), "image_id": 5}
    mapper = InferenceDatasetMapper(augmentations=[], image_format="RGB")
    with pytest.raises(UserError, match=r"\(image 5\) is 6 x 4 pixels, but the JSON says 6 x 5"):
        mapper({**dataset_dict, "height": 5, "width": 6})


def test_equal_base_names_in_sub_folders_stay_apart(tiny_dataset):
    folder, write = tiny_dataset
    content = write()
    names = ["x/a.png", "y/a.png"]
    for value, name in enumerate(names):
        for part in ("images", "panoptic"):
            (folder / part / name).parent.mkdir()
        Image.new("RGB", (6, 4), (value, 0, 0)).save(folder / "images" / name)
        Image.new("RGB", (6, 4), (7 + value, 0, 0)).save(folder / "panoptic" / name)
    image = content["images"][0]
    write(
        images=[{**image, "id": n, "file_name": name} for n, name in enumerate(names)],
        annotations=[
            {"image_id": n, "file_name": name, "segments_info": [{"id": 7 + n, "category_id": 3}]}
            for n, name in enumerate(names)
        ],
    )
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    dicts = load_panoptic_json(*map(str, paths), things={3: 0}, stuff={9: 1})
    mapper = PanopticDatasetMapper(augmentations=[], image_format="RGB")
    assert [int(mapper(d)["image"][0, 0, 0]) for d in dicts] == [0, 1]


def test_real_photographs_agree_with_their_annotation(photographs):
    """Boxes and areas of the official annotation, recomputed from the PNG."""
    root = photographs / "coco_panoptic_sample"
    paths = (root / "images", root / "panoptic", root / "panoptic.json")
    ids = {c["id"]: i for i, c in enumerate(json.loads(paths[2].read_text())["categories"])}
    dicts = load_panoptic_json(*map(str, paths), things=ids, stuff={})
    mapper = PanopticDatasetMapper(augmentations=[], image_format="RGB")
    for dataset_dict in dicts:
        mapped = mapper(dataset_dict)
        boxes = mapped["instances"].gt_boxes.tensor
        for t, info in enumerate(dataset_dict["segments_info"]):
            x, y, w, h = info["bbox"]
            assert boxes[t].tolist() == [x, y, x + w, y + h]
            assert int((mapped["segment_map"] == t + 1).sum()) == info["area"]
