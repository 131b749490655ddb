import json

import numpy as np
import pytest
from panoptic_files import pixels_of_rows, read_written, save, save_noise
from pycocotools import mask as coco_mask

from detr_d2.data.preparation import from_instances, write_panoptic
from detr_d2.errors import UserError

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 5, "name": "person"}]


@pytest.fixture
def convert(tmp_path):
    """A function that writes an instances JSON of one 6x8 image, and converts it."""

    def convert(*annotations, categories=CATEGORIES, **options) -> list[tuple]:
        save_noise(tmp_path / "images/sub/a.jpg", 6, 8)
        annotations = [
            {"id": number, "image_id": 9, "iscrowd": 0, **annotation}
            for number, annotation in enumerate(annotations, 1)
        ]
        content = {
            "images": [{"id": 9, "file_name": "sub/a.jpg", "height": 6, "width": 8}],
            "annotations": annotations,
            "categories": categories,
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        source = from_instances(tmp_path / "images", tmp_path / "instances.json", **options)
        write_panoptic(source, tmp_path / "out", "train", workers=1)
        return read_written(tmp_path / "out")["sub/a.jpg"]

    return convert


def rectangle(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def runs(mask: np.ndarray, compressed: bool) -> dict:
    """COCO's run lengths, column after column, from the first 0s on."""
    if compressed:
        run = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": run["size"], "counts": run["counts"].decode()}
    counts, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def block(x0, y0, x1, y1) -> frozenset:
    return frozenset((y, x) for y in range(y0, y1) for x in range(x0, x1))


def test_polygons_become_things(convert):
    found = convert({"category_id": 3, "segmentation": rectangle(1, 2, 5, 4)})
    assert found == [(3, 0, block(1, 2, 5, 4))]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5, 1])
def test_run_lengths_are_read(convert, compressed, share):
    mask = np.random.default_rng(0).random((6, 8)) < share
    found = convert({"category_id": 5, "segmentation": runs(mask, compressed)})
    assert found == [(5, 0, frozenset(zip(*(x.tolist() for x in np.nonzero(mask)))))]


def test_smaller_lies_over_larger_and_crowd_below_all(convert):
    small, large = rectangle(2, 2, 4, 4), rectangle(0, 0, 6, 5)
    crowd = {"category_id": 5, "segmentation": rectangle(3, 3, 5, 5), "iscrowd": 1}
    found = convert(
        {"category_id": 5, "segmentation": small}, {"category_id": 3, "segmentation": large}, crowd
    )
    assert found == [
        (3, 0, block(0, 0, 6, 5) - block(2, 2, 4, 4)),
        (5, 0, block(2, 2, 4, 4)),
    ]


def test_random_overlaps_follow_the_rule_pixel_by_pixel(convert):
    random = np.random.default_rng(0)
    masks = random.random((7, 6, 8)) < random.random((7, 1, 1))
    crowd = [0, 1, 0, 0, 1, 0, 0]
    annotations = [
        {"category_id": 3, "segmentation": runs(m, True), "iscrowd": c}
        for m, c in zip(masks, crowd)
    ]
    found = convert(*annotations)
    expected = {}
    for row, column in np.ndindex(6, 8):
        here = [n for n in range(7) if masks[n, row, column]]
        if here:
            top = min(here, key=lambda n: (crowd[n], masks[n].sum(), -n))
            expected.setdefault(top, set()).add((row, column))
    assert {(c, pixels) for _, c, pixels in found} == {
        (crowd[n], frozenset(pixels)) for n, pixels in expected.items()
    }


def test_background_takes_what_is_left(convert):
    found = convert({"category_id": 3, "segmentation": rectangle(0, 0, 8, 5)}, background="ground")
    assert found == [(3, 0, block(0, 0, 8, 5)), (6, 0, pixels_of_rows(5, width=8))]


def test_stuff_comes_from_label_maps_below_the_things(convert, tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[3:], labels[5] = 1, 7  # 7 is of no category
    save(tmp_path / "stuff/sub/a.png", labels)
    stuff = [{"id": 11, "name": "sky", "isthing": 0, "label": 0}]
    stuff += [{"id": 12, "name": "road", "isthing": 0, "label": [1, 2]}]
    (tmp_path / "stuff.json").write_text(json.dumps(stuff))
    found = convert(
        {"category_id": 3, "segmentation": rectangle(1, 2, 5, 4)},
        stuff_root=tmp_path / "stuff",
        stuff_categories=tmp_path / "stuff.json",
    )
    car = block(1, 2, 5, 4)
    assert found == [
        (11, 0, pixels_of_rows(0, 1, 2, width=8) - car),
        (12, 0, pixels_of_rows(3, 4, width=8) - car),
        (3, 0, car),
    ]


def test_images_without_any_instance_are_no_dataset(convert):
    with pytest.raises(UserError, match=r"(?s)No pixel of the 1 images.*1 images have no annot"):
        convert()
    ((_, _, found),) = convert(background="else")
    assert found == block(0, 0, 8, 6)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"segmentation": [[1, 2, 3, 4]]}, r"annotation 1 \(image 9\): a polygon has 4 numbers"),
        ({"segmentation": []}, "there is no polygon"),
        ({"segmentation": [[0, 0, 1, 0, float("nan"), 1]]}, "a coordinate that is no number"),
        ({"segmentation": {"size": [6, 8], "counts": [3, 4]}}, "its runs cover 7 of 48 pixels"),
        ({"segmentation": {"size": [6, 8], "counts": [50, -2]}}, "one of its runs is -2 pixels"),
        ({"segmentation": {"size": [6, 8], "counts": "55"}}, "its runs cover 10 of 48 pixels"),
        ({"segmentation": {"size": [6, 8], "counts": "5\t"}}, "is not of COCO's run lengths"),
        ({"segmentation": {"size": [6, 8]}}, "its run lengths lack their size or their counts"),
        ({"segmentation": [1, 2, 3, 4]}, "no list of polygons, and no run lengths"),
        ({"segmentation": None}, "no list of polygons, and no run lengths"),
        ({"segmentation": {"size": [8, 6], "counts": [48]}}, "its mask is 6 x 8, the image 8 x 6"),
        ({"category_id": 4}, "annotation 1 has category 4, which is not in"),
        ({"category_id": [3]}, r"annotation 1 has category \[3\], which is not in"),
        ({"image_id": 8}, "annotation 1 is of image 8, which is not in"),
        ({"iscrowd": 2}, "annotation 1 has iscrowd 2: use 0 or 1"),
    ],
)
def test_bad_annotations_are_named(convert, change, sentence):
    good = {"category_id": 3, "segmentation": rectangle(0, 0, 2, 2)}
    with pytest.raises(UserError, match=sentence):
        convert({**good, **change}, good)


@pytest.mark.parametrize("box", [{}, {"segmentation": None}, {"segmentation": []}])
def test_boxes_alone_are_no_masks(convert, box):
    with pytest.raises(UserError, match="not one of its 2 annotations has a segmentation"):
        convert({"category_id": 3, "bbox": [0, 0, 2, 2], **box}, {"category_id": 5, **box})


def test_bad_lists_are_named(convert, tmp_path):
    for categories, sentence in [
        ([], "has no categories"),
        ([*CATEGORIES, {"id": 3, "name": "bus"}], "two categories have the id 3"),
        ([{"id": "x", "name": "car"}], "the category id 'x' is no whole number"),
        ([3], "has no list categories"),
    ]:
        with pytest.raises(UserError, match=sentence):
            convert(categories=categories)
    with pytest.raises(UserError, match="two categories have the name car"):
        convert(background="car")
    content = json.loads((tmp_path / "instances.json").read_text())
    for images, sentence in [
        (content["images"] * 2, "two images have the id 9"),
        ([{"id": 9}], "image 9 has no file_name"),
        ([{"id": 9, "file_name": 3}], "image 9 has the file_name 3: correct it"),
    ]:
        (tmp_path / "instances.json").write_text(json.dumps({**content, "images": images}))
        with pytest.raises(UserError, match=sentence):
            from_instances(tmp_path / "images", tmp_path / "instances.json")


def test_stuff_with_the_id_of_a_thing_is_named(convert, tmp_path):
    (tmp_path / "stuff.json").write_text('[{"id": 3, "name": "sky", "isthing": 0}]')
    with pytest.raises(UserError, match="sky has the id 3, which is of a thing"):
        convert(stuff_root=tmp_path, stuff_categories=tmp_path / "stuff.json")
