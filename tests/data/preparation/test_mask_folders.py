import json

import numpy as np
import pytest
from panoptic_files import read_written, save, save_noise

from detr_d2.data.preparation import Kinds, from_mask_folders, write_panoptic
from detr_d2.errors import UserError

SIZE = (5, 6)


def mask(x0, y0, x1, y1, value=1) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[y0:y1, x0:x1] = value
    return mask


def pixels(mask) -> frozenset:
    return frozenset(zip(*(x.tolist() for x in np.nonzero(mask))))


@pytest.fixture
def convert(tmp_path):
    def convert(masks: dict, **options):
        save_noise(tmp_path / "images/x/a.bmp", *SIZE)
        for name, content in masks.items():
            save(tmp_path / "masks" / name, content)
        source = from_mask_folders(tmp_path / "images", tmp_path / "masks", **options)
        remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
        content = json.loads((tmp_path / "out/panoptic_train.json").read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        found = read_written(tmp_path / "out")["x/a.bmp"]
        return [(names[class_], p) for class_, _, p in found], remarks

    return convert


def test_classes_are_in_the_names_of_files_or_folders(convert):
    cell, nucleus = mask(0, 0, 3, 3), mask(4, 0, 6, 2, value=255)
    found, _ = convert({"x/a/cell_1.png": cell, "x/a/nucleus/whatever.png": nucleus})
    assert set(found) == {("cell", pixels(cell)), ("nucleus", pixels(nucleus))}


def test_one_class_for_all_masks(convert):
    found, _ = convert({"x/a/1f3c.png": mask(0, 0, 3, 3)}, category="cell")
    assert found == [("cell", pixels(mask(0, 0, 3, 3)))]


def test_overlaps_smaller_over_larger_and_stuff_below(convert):
    large, small, ground = mask(0, 0, 6, 3), mask(1, 1, 3, 3), mask(0, 1, 6, 5)
    found, _ = convert(
        {
            "x/a/cell_1.png": small,
            "x/a/cell_2.png": large,
            "x/a/ground_1.png": ground[:, :] * (np.arange(6) < 3).astype(np.uint8),
            "x/a/ground_2.png": ground[:, :] * (np.arange(6) >= 3).astype(np.uint8),
        },
        kinds=Kinds(stuff=("ground",)),
    )
    assert found == [
        ("ground", pixels(ground) - pixels(large)),
        ("cell", pixels(large) - pixels(small)),
        ("cell", pixels(small)),
    ]


def test_hidden_and_empty_masks_are_counted(convert):
    masks = {"x/a/cell_1.png": mask(0, 0, 2, 2), "x/a/cell_2.png": mask(0, 0, 2, 2)}
    found, remarks = convert({**masks, "x/a/cell_3.png": mask(0, 0, 0, 0)})
    assert found == [("cell", pixels(mask(0, 0, 2, 2)))]
    assert sum(remarks.values()) == 2


@pytest.mark.parametrize(
    "masks, options, sentence",
    [
        ({"x/a/1.png": mask(0, 0, 1, 1)}, {}, "1.png does not say its class"),
        ({"y/cell_1.png": mask(0, 0, 1, 1)}, {}, "has no masks of the images"),
        ({"x/a/cell_1.jpg": mask(0, 0, 1, 1)}, {}, "is a JPEG, which blurs"),
        ({"x/a/cell_1.png": mask(0, 0, 1, 1)[1:]}, {}, "cell_1.png is 6 x 4 pixels, but its"),
        ({"x/a/cell_1.png": mask(0, 0, 1, 1)}, {"kinds": Kinds(stuff=("sky",))}, "no class sky"),
    ],
)
def test_bad_masks_are_named(convert, masks, options, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(masks, **options)


def transparent(colour: int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.full((*SIZE, 3), colour, np.uint8), alpha])


@pytest.mark.parametrize(
    "written",
    [
        transparent(255, mask(0, 0, 3, 3, value=255)),
        transparent(0, mask(0, 0, 3, 3, value=255)),
        transparent(255, mask(0, 0, 3, 3, value=255))[..., 2:],  # grey and its transparency
        np.dstack([mask(0, 0, 3, 3, value=9)] * 3 + [np.full(SIZE, 255, np.uint8)]),
        mask(0, 0, 3, 3).astype(bool),
        mask(0, 0, 3, 3).astype(np.uint16),
    ],
)
def test_what_is_transparent_is_not_of_the_object(convert, written):
    found, remarks = convert({"x/a/cell_1.png": written})
    assert found == [("cell", pixels(mask(0, 0, 3, 3)))] and not remarks


def test_masks_that_are_hardly_meant_are_counted(convert):
    several = mask(0, 0, 3, 3)
    several[0, 0] = 7
    _, remarks = convert({"x/a/cell_1.png": several, "x/a/cell_2.png": 1 + mask(0, 0, 0, 0)})
    assert any("several values" in remark for remark in remarks)
    assert any("cover the whole image" in remark for remark in remarks)
    assert set(remarks.values()) == {1}


def test_folders_are_found_in_any_case_and_what_is_of_no_image_is_said(tmp_path):
    save_noise(tmp_path / "images/Street.JPG", *SIZE)
    for name in ("street/cell_1.png", "other/cell_1.png"):
        save(tmp_path / "masks" / name, mask(0, 0, 3, 3))
    source = from_mask_folders(tmp_path / "images", tmp_path / "masks")
    assert source.notes == ("1 masks are of no image, such as other/cell_1.png: left out.",)
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    assert read_written(tmp_path / "out") == {"Street.JPG": [(1, 0, pixels(mask(0, 0, 3, 3)))]}


def test_two_images_do_not_share_a_folder(tmp_path):
    for name in ("a.jpg", "a.png"):
        save_noise(tmp_path / "images" / name, *SIZE)
    save(tmp_path / "masks/a/cell_1.png", mask(0, 0, 3, 3))
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would both have the masks of a:"):
        from_mask_folders(tmp_path / "images", tmp_path / "masks")


def test_label_studios_brush_masks_belong_to_tasks_in_order(tmp_path):
    first, second = mask(0, 0, 3, 3), mask(4, 0, 6, 2, value=255)
    for name in ("a.jpg", "b.jpg"):
        save_noise(tmp_path / "images" / name, *SIZE)
    for name, content in {
        "10-annotation-7-by-1-tag-car-0": second,
        "9-annotation-3-by-2-tag-bus-stop-1": first,
    }.items():
        save(tmp_path / f"masks/task-{name}.png", content)
    source = from_mask_folders(tmp_path / "images", tmp_path / "masks")
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    found = read_written(tmp_path / "out")
    assert [c["name"] for c in source.categories] == ["bus-stop", "car"]
    assert found == {"a.jpg": [(1, 0, pixels(first))], "b.jpg": [(2, 0, pixels(second))]}
    (note,) = source.notes
    assert "in order, task 9 for a.jpg to task 10 for b.jpg" in note


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("task-1-annotation-2-by-1-tag-car-0", "task 1 has two annotations"),
        ("task-2-annotation-2-by-1-tag-car-0", "masks of 2 tasks .*, and there are 1 images"),
    ],
)
def test_tasks_that_could_be_of_other_images_are_refused(tmp_path, name, sentence):
    save_noise(tmp_path / "images/a.jpg", *SIZE)
    for task in ("task-1-annotation-1-by-1-tag-car-0", name):
        save(tmp_path / f"masks/{task}.png", mask(0, 0, 3, 3))
    with pytest.raises(UserError, match=sentence):
        from_mask_folders(tmp_path / "images", tmp_path / "masks")
