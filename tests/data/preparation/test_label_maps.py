import json

import numpy as np
import pytest
from panoptic_files import read_written, save, save_noise
from PIL import Image

from detr_d2.data.preparation import Ending, Kinds, Objects, from_label_maps, write_panoptic
from detr_d2.errors import UserError

LABELS = np.array(
    [
        [7, 7, 7, 7, 7, 7],
        [7, 26, 7, 7, 26, 26],
        [7, 7, 26, 7, 26, 26],
        [0, 0, 0, 0, 8, 9],
    ],
    dtype=np.uint8,
)
# As Cityscapes has them: class * 1000 + number; the class alone where objects are not told apart.
INSTANCES = np.where(LABELS == 26, 26000, LABELS).astype(np.uint16)
INSTANCES[1:3, 4:] = [[26, 26001], [26, 26001]]
CATEGORIES = [
    {"id": 1, "name": "road", "isthing": 0, "label": [7, 8]},
    {"id": 2, "name": "car", "isthing": 1, "label": 26},
]


def pixels(mask) -> frozenset:
    return frozenset(zip(*(x.tolist() for x in np.nonzero(mask))))


@pytest.fixture
def convert(tmp_path):
    """A function that writes maps of one image as Cityscapes names them, and converts them."""

    def convert(objects=None, labels=LABELS, categories=CATEGORIES):
        save_noise(tmp_path / "images/aachen/a_leftImg8bit.png", 4, 6)
        save(tmp_path / "gt/aachen/a_gtFine_labelIds.png", labels)
        save(tmp_path / "gt/aachen/a_gtFine_instanceIds.png", INSTANCES)
        (tmp_path / "categories.json").write_text(json.dumps(categories))
        ending = Ending("_leftImg8bit.png", "_gtFine_labelIds.png")
        source = from_label_maps(
            tmp_path / "images", tmp_path / "gt", tmp_path / "categories.json", ending, objects
        )
        remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
        return read_written(tmp_path / "out")["aachen/a_leftImg8bit.png"], remarks

    return convert


def test_instance_maps_tell_things_apart(convert, tmp_path):
    ending = Ending("_leftImg8bit.png", "_gtFine_instanceIds.png")
    found, remarks = convert(Objects(tmp_path / "gt", ending, crowd_below=1000))
    assert found == [
        (1, 0, pixels((LABELS == 7) | (LABELS == 8))),
        (2, 1, pixels(INSTANCES == 26)),
        (2, 0, pixels(INSTANCES == 26000)),
        (2, 0, pixels(INSTANCES == 26001)),
    ]
    assert remarks == {
        "images have the label 0, of no category: VOID": 1,
        "images have the label 9, of no category: VOID": 1,
    }


def test_without_instance_maps_things_are_connected_regions(convert):
    found, _ = convert(Objects())
    # Pixels that share a corner are connected.
    assert {p for class_, _, p in found if class_ == 2} == {
        frozenset({(1, 1), (2, 2)}),
        frozenset({(1, 4), (1, 5), (2, 4), (2, 5)}),
    }


def test_small_regions_are_void(convert):
    found, remarks = convert(Objects(least_area=3))
    assert [len(p) for class_, _, p in found if class_ == 2] == [4]
    assert remarks["regions of things are below 3 pixels: VOID"] == 1


def test_maps_of_other_labels_are_refused(convert, tmp_path):
    with pytest.raises(UserError, match=r"(?s)No pixel of the 1 images .*have the label 9"):
        convert(labels=LABELS * 0 + 9, categories=CATEGORIES[:1])
    assert not list(tmp_path.glob("out/*"))


def test_jpegs_are_no_maps(tmp_path):
    save_noise(tmp_path / "images/a.png", 4, 6)
    save(tmp_path / "gt/a.jpg", LABELS)
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES))
    paths = (tmp_path / "images", tmp_path / "gt", tmp_path / "categories.json")
    source = from_label_maps(*paths, Ending(of_map=".jpg"), Objects())
    with pytest.raises(UserError, match=r"a\.jpg .* is a JPEG, which blurs"):
        write_panoptic(source, tmp_path / "out", "train", workers=1)


def test_maps_are_found_in_any_case_and_numbers_may_be_text(tmp_path):
    save_noise(tmp_path / "images/Sub/A.jpg", 4, 6)
    save(tmp_path / "gt/sub/a.PNG", LABELS)
    categories = [{"id": "1", "name": "road", "label": ["7", 8.0]}, {"id": 2.0, "name": "car"}]
    (tmp_path / "categories.json").write_text(json.dumps({"categories": categories}))
    source = from_label_maps(
        *(tmp_path / "images", tmp_path / "gt", tmp_path / "categories.json"),
        kinds=Kinds(stuff=("road", "car")),
    )
    write_panoptic(source, tmp_path / "out", "train", workers=1)
    found = read_written(tmp_path / "out")
    assert found == {"Sub/A.jpg": [(1, 0, pixels((LABELS == 7) | (LABELS == 8)))]}


def test_maps_of_photographs_as_stored_say_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "images").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "images/a.jpg", exif=exif)
    save(tmp_path / "gt/a.png", LABELS)
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES[:1]))
    paths = (tmp_path / "images", tmp_path / "gt", tmp_path / "categories.json")
    with pytest.raises(UserError, match=r"are for 6 x 4: .*EXIF .*Give --annotated-as-stored"):
        write_panoptic(from_label_maps(*paths), tmp_path / "out", "train", workers=1)


def test_images_and_maps_in_one_folder_are_refused(tmp_path):
    save_noise(tmp_path / "a.jpg", 4, 6)
    save(tmp_path / "a.png", LABELS)
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES[:1]))
    with pytest.raises(UserError, match=r"a\.jpg and a\.png would both have the label map of a"):
        from_label_maps(tmp_path, tmp_path, tmp_path / "categories.json")


def test_things_need_objects(convert):
    with pytest.raises(UserError, match="car is a thing, and nothing says"):
        convert()


def test_stuff_alone_needs_none(convert):
    found, _ = convert(categories=CATEGORIES[:1])
    assert found == [(1, 0, pixels((LABELS == 7) | (LABELS == 8)))]


def test_grey_maps_written_as_colour_are_read(convert):
    found, _ = convert(categories=CATEGORIES[:1], labels=np.stack([LABELS] * 3, axis=2))
    assert found == [(1, 0, pixels((LABELS == 7) | (LABELS == 8)))]


@pytest.mark.parametrize(
    "labels, sentence",
    [
        (LABELS[:3], r"a_gtFine_labelIds\.png is 6 x 3 pixels, but its image .*aachen/a_left"),
        (np.arange(72, dtype=np.uint8).reshape(4, 6, 3), "is in mode RGB: a map has one whole"),
    ],
)
def test_bad_maps_are_named(convert, labels, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(Objects(), labels=labels)


@pytest.mark.parametrize(
    "categories, sentence",
    [
        ({"road": 1}, "is not a list of categories"),
        ([{**CATEGORIES[0], "label": 26}, CATEGORIES[1]], "road and car have the label 26 both"),
        ([{**CATEGORIES[0], "label": "x"}], "the label 'x' is not a whole number"),
        ([CATEGORIES[0], CATEGORIES[0]], "two categories have the id 1"),
    ],
)
def test_bad_categories_are_named(convert, categories, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(Objects(), categories=categories)


LABELMAP = """# label:color_rgb:parts:actions
background:0,0,0::
car:250,50,83::
road:10,20,30::
"""


def coloured(tmp_path, classes, objects) -> dict:
    """Writes maps as CVAT does, numbers being indices of colours."""
    colours = np.array([[0, 0, 0], [250, 50, 83], [10, 20, 30], [1, 2, 3]], dtype=np.uint8)
    save_noise(tmp_path / "images/a.jpg", 2, 4)
    save(tmp_path / "classes/a.png", colours[np.array(classes)])
    save(tmp_path / "objects/a.png", colours[np.array(objects)])
    (tmp_path / "labelmap.txt").write_text(LABELMAP)
    return {
        "image_root": tmp_path / "images",
        "label_root": tmp_path / "classes",
        "labelmap": tmp_path / "labelmap.txt",
        "objects": Objects(tmp_path / "objects"),
    }


@pytest.mark.parametrize("with_categories", [False, True])
def test_colours_of_a_labelmap_are_classes(tmp_path, with_categories):
    options = coloured(tmp_path, [[1, 1, 0, 1], [2, 2, 0, 1]], [[1, 2, 0, 3], [0, 0, 0, 3]])
    file = None
    if with_categories:
        file = tmp_path / "categories.json"
        file.write_text(json.dumps([{"id": 1, "name": "car", "isthing": 1}]))
    kinds = Kinds() if with_categories else Kinds(stuff=("road",))
    source = from_label_maps(categories_file=file, kinds=kinds, **options)
    remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
    found = read_written(tmp_path / "out")["a.jpg"]
    cars = [(1, 0, pixels([[1]])), (1, 0, frozenset({(0, 1)})), (1, 0, frozenset({(0, 3), (1, 3)}))]
    road = [] if with_categories else [(2, 0, frozenset({(1, 0), (1, 1)}))]
    assert sorted(found, key=str) == sorted(cars + road, key=str)
    assert not remarks


def test_colours_of_no_class_are_void_and_named(tmp_path):
    options = coloured(tmp_path, [[1, 1, 0, 3], [1, 1, 0, 3]], [[1, 1, 0, 3], [1, 1, 0, 3]])
    source = from_label_maps(categories_file=None, **options)
    remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
    assert remarks == {"images have the colour 1, 2, 3, of no category: VOID": 1}


def test_a_map_that_was_resized_is_called_one(tmp_path):
    random = np.random.default_rng(0)
    options = coloured(tmp_path, [[1] * 4] * 2, [[1] * 4] * 2)
    classes = np.zeros((2, 40, 3), dtype=np.uint8)
    classes[:, :23] = [250, 50, 83]
    classes[1, 23:] = random.integers(100, 200, (17, 3))
    save_noise(tmp_path / "images/a.jpg", 2, 40)
    save(tmp_path / "classes/a.png", classes)
    save(tmp_path / "objects/a.png", classes)
    source = from_label_maps(categories_file=None, **options)
    remarks = write_panoptic(source, tmp_path / "out", "train", workers=1).remarks
    assert remarks == {
        "images have more than 16 colours of no category, as where a map was resized or smoothed: "
        "VOID": 1
    }
    car = frozenset((row, column) for row in range(2) for column in range(23))
    assert read_written(tmp_path / "out")["a.jpg"] == [(1, 0, car)]


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("car;1,2,3", "is not of the form name:red,green,blue"),
        ("car:1,2::", "is not of the form"),
        ("car:1,2,256::", "is not of the form"),
        ("car:0,0,0::", "is there twice"),
        ("# nothing", "has no colour of car: its classes are background"),
    ],
)
def test_bad_labelmaps_are_named(tmp_path, line, sentence):
    options = coloured(tmp_path, [[0] * 4] * 2, [[0] * 4] * 2)
    options["labelmap"].write_text(f"background:0,0,0::\n{line}\n")
    file = tmp_path / "categories.json"
    file.write_text(json.dumps([{"id": 1, "name": "car", "isthing": 1}]))
    with pytest.raises(UserError, match=sentence):
        from_label_maps(categories_file=file, **options)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff", "Straße:1,2,3::".encode("latin-1")])
def test_a_labelmap_that_is_no_text_is_named(tmp_path, content):
    options = coloured(tmp_path, [[0] * 4] * 2, [[0] * 4] * 2)
    options["labelmap"].write_bytes(content)
    with pytest.raises(UserError, match=r"labelmap\.txt cannot be read as CVAT's labelmap\.txt"):
        from_label_maps(categories_file=None, **options)


def test_colours_without_a_labelmap_are_named(tmp_path):
    options = coloured(tmp_path, [[1] * 4] * 2, [[1] * 4] * 2)
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES))
    source = from_label_maps(
        options["image_root"],
        options["label_root"],
        tmp_path / "categories.json",
        objects=Objects(),
    )
    with pytest.raises(UserError, match=r"is in mode RGB.*give --labelmap"):
        write_panoptic(source, tmp_path / "out", "train", workers=1)
