import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from panoptic_files import read_written, save_noise
from PIL import Image

from detr_d2.data.preparation import Kinds, from_labelme, write_panoptic
from detr_d2.errors import UserError

HEIGHT, WIDTH = 20, 30


def block(x0, y0, x1, y1) -> frozenset:
    return frozenset((y, x) for y in range(y0, y1) for x in range(x0, x1))


def shape(label, kind, points, group=None, **more) -> dict:
    return {"label": label, "shape_type": kind, "points": points, "group_id": group, **more}


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(folder: Path, *shapes, name="sub/a", image_path="a.jpg", **changes) -> None:
    save_noise(folder / f"{name}.jpg", HEIGHT, WIDTH)
    content = {"version": "5.2.1", "shapes": list(shapes), "imagePath": image_path}
    content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None, **changes}
    (folder / f"{name}.json").write_text(json.dumps(content))


def convert(folder: Path, skip_bad=False, **options):
    source = from_labelme(folder, folder, **options)
    write_panoptic(source, folder / "out", "train", workers=1, skip_bad=skip_bad)
    names = {c["id"]: c["name"] for c in source.categories}
    written = read_written(folder / "out")
    return {image: [(names[c], p) for c, _, p in found] for image, found in written.items()}


def test_polygons_rectangles_and_masks_are_read(tmp_path):
    part = np.array([[1, 0], [1, 1]], dtype=bool)
    write(
        tmp_path,
        shape("car", "polygon", [[1, 2], [5, 2], [5, 4], [1, 4]]),
        shape("bus", "rectangle", [[20, 10], [12, 6]]),  # any two corners
        shape("car", "mask", [[25, 15], [26, 16]], mask=png(part)),
    )
    assert convert(tmp_path)["sub/a.jpg"] == [
        ("bus", block(12, 6, 20, 10)),
        ("car", block(1, 2, 5, 4)),
        ("car", frozenset({(15, 25), (16, 25), (16, 26)})),
    ]


def test_a_circle_is_what_is_near_its_centre(tmp_path):
    write(tmp_path, shape("disc", "circle", [[15, 10], [15, 17]]))
    ((_, found),) = convert(tmp_path)["sub/a.jpg"]
    for y in range(HEIGHT):
        for x in range(WIDTH):
            distance = math.dist((x + 0.5, y + 0.5), (15, 10))
            if abs(distance - 7) > 0.75:
                assert ((y, x) in found) == (distance < 7)


def test_a_group_is_one_object_and_labels_keep_apart(tmp_path):
    left, right = [[1, 1], [4, 4]], [[10, 1], [14, 4]]
    write(
        tmp_path,
        shape("car", "rectangle", left, group=1),
        shape("car", "rectangle", right, group=1),
        shape("bus", "rectangle", [[20, 1], [24, 4]], group=1),
        shape("bus", "rectangle", [[20, 8], [24, 9]]),
        shape("bus", "rectangle", [[10, 8], [14, 9]]),
    )
    found = convert(tmp_path)["sub/a.jpg"]
    assert ("car", block(1, 1, 4, 4) | block(10, 1, 14, 4)) in found
    assert sorted(name for name, _ in found) == ["bus", "bus", "bus", "car"]


def test_stuff_and_background(tmp_path):
    write(
        tmp_path,
        shape("road", "rectangle", [[0, 0], [30, 2]]),
        shape("road", "rectangle", [[0, 18], [30, 20]]),
        shape("car", "rectangle", [[1, 1], [3, 3]]),
    )
    found = convert(tmp_path, background="else", kinds=Kinds(stuff=("road",)))["sub/a.jpg"]
    car = block(1, 1, 3, 3)
    road = block(0, 0, 30, 2) | block(0, 18, 30, 20)
    assert dict(found) == {
        "car": car,
        "road": road - car,
        "else": block(0, 0, 30, 20) - road - car,
    }


IGNORED_AND_EMPTY = (
    shape("car", "rectangle", [[0, 0], [20, 10]]),
    shape("__ignore__", "rectangle", [[2, 2], [6, 6]]),
    shape("__IGNORE__", "rectangle", [[22, 2], [26, 6]]),
    shape("_background_", "rectangle", [[10, 2], [14, 6]]),
)


@pytest.mark.parametrize("background", ["", "else"])
def test_what_labelme_ignores_is_void_and_its_background_is_no_object(tmp_path, background):
    write(tmp_path, *IGNORED_AND_EMPTY)
    source = from_labelme(tmp_path, tmp_path, background)
    assert source.notes == (
        "2 objects are __ignore__: VOID.",
        "1 objects are _background_: no class has their pixels.",
    )
    ignored, empty = block(2, 2, 6, 6) | block(22, 2, 26, 6), block(10, 2, 14, 6)
    car = block(0, 0, 20, 10) - ignored - empty
    expected = {"car": car}
    if background:
        expected[background] = block(0, 0, WIDTH, HEIGHT) - ignored - car
    assert dict(convert(tmp_path, background=background)["sub/a.jpg"]) == expected


def test_labelmes_names_may_be_classes_all_the_same(tmp_path):
    write(tmp_path, *IGNORED_AND_EMPTY)
    kinds = Kinds(stuff=("_background_",), things=("__ignore__", "__IGNORE__"))
    found = convert(tmp_path, kinds=kinds)["sub/a.jpg"]
    assert sorted(name for name, _ in found) == ["__IGNORE__", "__ignore__", "car"]


def test_what_is_ignored_alone_is_no_class(tmp_path):
    write(tmp_path, IGNORED_AND_EMPTY[1])
    with pytest.raises(UserError, match="has no class but __ignore__"):
        convert(tmp_path)


@pytest.mark.parametrize("image_path", ["..\\sub\\a.jpg", "/home/me/sub/a.jpg"])
def test_the_image_is_found_where_it_lies(tmp_path, image_path):
    write(tmp_path, shape("car", "rectangle", [[1, 1], [3, 3]]), image_path=image_path)
    assert list(convert(tmp_path)) == ["sub/a.jpg"]


def test_an_unknown_size_is_read_from_the_image(tmp_path):
    write(tmp_path, shape("car", "rectangle", [[1, 1], [3, 3]]), imageHeight=None)
    assert convert(tmp_path)["sub/a.jpg"] == [("car", block(1, 1, 3, 3))]


@pytest.mark.parametrize(
    "bad, sentence",
    [
        (shape("car", "line", [[1, 1], [3, 3]]), r"shape 0 \(car\): a line has no area"),
        (shape("car", "polygon", [[1, 1], [3, 3]]), "a polygon has 4 numbers"),
        (shape("car", "mask", [[0, 0]], mask="?"), "its mask is no base64"),
        (shape("car", "mask", [[0, 0]], mask="aaaa"), "its mask is no PNG"),
        (shape("car", "mask", [[29, 0]], mask=png(np.ones((1, 3), bool))), "beyond the image"),
        ({"label": "car"}, "points"),
        (shape(None, "polygon", [[1, 1], [3, 1], [3, 3]]), "it has no label"),
        (shape("car", "polygon", [[1, 1, 9], [3, 1, 9], [3, 3, 9]]), "too many values"),
    ],
)
def test_what_is_no_area_is_named_or_left_out(tmp_path, bad, sentence):
    write(tmp_path, bad, shape("car", "rectangle", [[1, 1], [3, 3]]))
    with pytest.raises(UserError, match=sentence):
        convert(tmp_path)
    assert convert(tmp_path, skip_bad=True)["sub/a.jpg"] == [("car", block(1, 1, 3, 3))]


def test_shapes_that_are_all_bad_are_named(tmp_path):
    write(tmp_path, shape("car", "line", [[1, 1], [3, 3]]))
    with pytest.raises(UserError, match=r"(?s)no JSON file has a shape that.*a line has no area"):
        convert(tmp_path, skip_bad=True)
    write(tmp_path)
    with pytest.raises(UserError, match=r"no JSON file has a shape\."):
        convert(tmp_path)


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle", None])
def test_rectangles_of_four_corners_and_shapes_without_a_type(tmp_path, kind):
    write(tmp_path, shape(" car ", kind, [[1, 2], [5, 2], [5, 4], [1, 4]]))
    assert convert(tmp_path)["sub/a.jpg"] == [("car", block(1, 2, 5, 4))]


def test_an_image_of_another_machine_and_of_no_size_is_found(tmp_path):
    rectangle = shape("car", "rectangle", [[1, 1], [3, 3]])
    write(tmp_path, rectangle, image_path="C:\\photos\\a.jpg", imageHeight=None)
    assert convert(tmp_path)["sub/a.jpg"] == [("car", block(1, 1, 3, 3))]


def test_shapes_beyond_the_image_are_said(tmp_path):
    write(tmp_path, shape("car", "rectangle", [[1, 1], [90, 70]]))
    source = from_labelme(tmp_path, tmp_path)
    remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
    assert [*remarks] == [
        "objects reach beyond their image: look whether it has the size that was annotated"
    ]


def test_shares_of_the_image_are_named(tmp_path):
    write(tmp_path, shape("car", "polygon", [[0.1, 0.1], [0.5, 0.1], [0.5, 0.4]]))
    with pytest.raises(UserError, match="as shares of the width and the height"):
        convert(tmp_path)


def test_polygons_and_masks_of_a_group_are_one_object(tmp_path):
    mask = png(np.ones((2, 3), dtype=bool))
    write(
        tmp_path,
        shape("car", "mask", [[10, 5], [12, 6]], group=1, mask=mask),
        shape("car", "rectangle", [[1, 1], [4, 4]], group=1),
    )
    assert convert(tmp_path)["sub/a.jpg"] == [("car", block(10, 5, 13, 7) | block(1, 1, 4, 4))]


def test_files_of_another_kind_are_named_or_left_out(tmp_path):
    write(tmp_path, shape("car", "rectangle", [[1, 1], [3, 3]]))
    (tmp_path / "sub/classes.json").write_text('["car"]')
    with pytest.raises(UserError, match=r"classes\.json has no imagePath and shapes"):
        convert(tmp_path)
    assert convert(tmp_path, skip_bad=True) == {"sub/a.jpg": [("car", block(1, 1, 3, 3))]}


def test_images_without_a_file_are_counted(tmp_path):
    write(tmp_path, shape("car", "rectangle", [[1, 1], [3, 3]]))
    save_noise(tmp_path / "sub/b.jpg", HEIGHT, WIDTH)
    notes = from_labelme(tmp_path, tmp_path).notes
    assert "1 images have no JSON file, such as sub/b.jpg: left out." in notes


def test_other_files_are_named(tmp_path):
    with pytest.raises(UserError, match="has no JSON files"):
        from_labelme(tmp_path, tmp_path)
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(UserError, match=r"a\.json has no imagePath and shapes"):
        from_labelme(tmp_path, tmp_path)
