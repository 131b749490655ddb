import json

import numpy as np
import pytest
from PIL import Image

from detr_d2.data.panoptic_map import number_segments
from detr_d2.data.validation import Dataset, fix, validate
from detr_d2.data.validation.statistics import dataset_name, suitable_queries
from detr_d2.errors import UserError


def problems_of(dataset, against=None):
    return [(p.kind, p.sentence, p.wrong) for p in validate(dataset, against, 1).problems]


def test_nothing_is_said_of_a_good_dataset(dataset):
    _, _, rewrite = dataset
    report = validate(rewrite(), None, 1)
    assert report.problems == [] and not report.is_wrong
    text = report.text(examples=5)
    assert "Nothing is wrong." in text and "1 images, 2 segments (0 of them crowd)" in text
    assert "NUM_CLASSES: 2\n    NUM_OBJECT_QUERIES: 100" in text
    assert "VOID: 41.7% of all pixels" in text  # 10 of 24


def with_segment(content, number=0, **changes):
    segments = [dict(s) for s in content["annotations"][0]["segments_info"]]
    segments[number].update(changes)
    segments[number] = {k: v for k, v in segments[number].items() if v is not None}
    return with_segments(content, segments)


def with_segments(content, segments):
    return {"annotations": [{**content["annotations"][0], "segments_info": segments}]}


def with_image(content, **changes):
    return {"images": [{**content["images"][0], **changes}]}


@pytest.mark.parametrize(
    "change, kind, sentence",
    [
        (lambda c: with_segment(c, area=5), "Areas and boxes", "area 5 in the JSON, but 4 in"),
        (lambda c: with_segment(c, area=None), "Areas and boxes", "area None in the JSON"),
        (lambda c: with_segment(c, bbox=[1, 1, 2, 3]), "Areas and boxes", "[1, 1, 2, 2] in the"),
        (lambda c: with_segment(c, iscrowd=None), "iscrowd", "segment 7 has no iscrowd"),
        (lambda c: with_segment(c, iscrowd=3), "iscrowd", "segment 7 has iscrowd 3: use 0 or 1"),
        (lambda c: with_segment(c, category_id=4), "Unknown categories", "7 has category 4"),
        (lambda c: with_segment(c, id=300), "Segment ids", "two segments have the id 300"),
        (lambda c: with_segment(c, id=0), "Segment ids", "a segment has the id 0"),
        (lambda c: with_segment(c, id=8), "PNG and JSON disagree", "lists a segment 8 that has no"),
        (lambda c: with_segment(c, id=8), "PNG and JSON disagree", "PNG has a segment 7 that the"),
        (lambda c: with_image(c, width=7), "Sizes", "is 6 x 4 pixels, but the JSON says 7 x 4"),
        (lambda c: with_image(c, file_name="b.png"), "Missing files", "b.png (image 5) does not"),
        (
            lambda c: with_image(c, file_name="../b.png"),
            "Names outside of their folder",
            "../b.png leaves",
        ),
        (
            lambda c: with_image(c, file_name="http://x.org/b.png"),
            "Missing files",
            "is a URL: down",
        ),
        (lambda c: with_image(c, id=6), "Format", "image 5 has an annotation but is not in"),
        (lambda c: with_image(c, file_name=3), "Format", "image 5 has the file_name 3: correct"),
        (lambda c: with_image(c, id=[5]), "Format", "image [5] has the id [5]: correct it"),
        (lambda c: {"annotations": []}, "Format", "annotates no image"),
        (lambda c: with_segment(c, id="a7"), "Segment ids", "a segment has the id 'a7': use whole"),
        (lambda c: with_segment(c, category_id=[3]), "Unknown categories", "has category [3]"),
        (lambda c: {"images": c["images"] * 2}, "Repeated ids and files", "have the id 5"),
        (lambda c: {"images": c["images"] * 2}, "Repeated ids and files", "are the file a.png"),
        (
            lambda c: {"annotations": c["annotations"] * 2},
            "Repeated ids and files",
            "image 5 has two annot",
        ),
    ],
)
def test_what_is_wrong_is_named(dataset, change, kind, sentence):
    _, content, rewrite = dataset
    found = problems_of(rewrite(**change(content)))
    assert [wrong for k, s, wrong in found if k == kind and sentence in s] == [True], found


def test_png_of_another_size_is_named(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    Image.new("RGB", (5, 4)).save(folder / "panoptic/a.png")
    found = [s for kind, s, _ in problems_of(changed) if kind == "Sizes"]
    assert found == [
        "a.png (image 5) is 5 x 4 pixels, but its image a.png is 6 x 4: make them the same size."
    ]


def test_half_an_image_is_named(dataset):
    folder, _, rewrite = dataset
    changed = rewrite()
    path = folder / "images/a.png"
    path.write_bytes(path.read_bytes()[:50])
    assert [kind for kind, _, _ in problems_of(changed)] == ["Files that are no images"]


def test_images_without_segments_are_told_but_not_wrong(dataset):
    _, content, rewrite = dataset
    found = problems_of(rewrite(ids=np.zeros((4, 6), int), **with_segments(content, [])))
    assert [(kind, wrong) for kind, _, wrong in found] == [("Images without segments", False)]


def test_stuff_in_two_segments_is_told_but_not_wrong(dataset):
    _, content, rewrite = dataset
    found = problems_of(rewrite(**with_segment(content, 0, category_id=9)))
    assert [(kind, wrong) for kind, _, wrong in found] == [("Stuff in several segments", False)]


def test_categories_that_cannot_be_used_are_one_sentence(dataset):
    _, content, rewrite = dataset
    with pytest.raises(UserError, match="two categories have the name car"):
        validate(
            rewrite(
                categories=[content["categories"][1], {**content["categories"][0], "name": "car"}]
            ),
            None,
            1,
        )
    for key, value, sentence in [
        ("isthing", "yes", "has isthing 'yes': use 0 or 1"),
        ("id", "9a", "the category id '9a' is no whole number"),
        ("name", None, "the category name None is no text"),
    ]:
        with pytest.raises(UserError, match=sentence):
            validate(rewrite(categories=[{**content["categories"][0], key: value}]), None, 1)
    with pytest.raises(UserError, match="no list `images`"):
        validate(rewrite(images={}), None, 1)
    with pytest.raises(UserError, match=r"no list `images` of objects, .*: number 1 is null\."):
        validate(rewrite(images=[None]), None, 1)
    instance = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}
    with pytest.raises(UserError, match=r"is a COCO instances JSON, .*prepare_dataset\.py inst"):
        validate(rewrite(annotations=[instance]), None, 1)


def test_fix_makes_the_json_what_the_files_are_and_keeps_the_old_one(dataset):
    folder, content, rewrite = dataset
    segments = content["annotations"][0]["segments_info"]
    wrong = [
        {"id": 7, "category_id": 3, "area": 1},
        {**segments[1], "bbox": [0, 0, 1, 1]},
        {**segments[1], "id": 8, "category_id": 3},
    ]
    changed = rewrite(**with_segments(content, wrong), **with_image(content, height=9))
    before = (folder / "panoptic.json").read_bytes()
    report = validate(changed, None, 1)
    copy, fixed = fix(report)
    assert copy.read_bytes() == before and copy.name == "panoptic.json.before-fix"
    # area, bbox and iscrowd of 7; bbox of 300; segment 8; the height
    assert fixed == len(report.problems) == 6
    assert validate(changed, None, 1).problems == []
    written = json.loads((folder / "panoptic.json").read_text())
    assert written == {**content, **with_segments(content, segments)}

    (folder / "panoptic.json").write_bytes(before)
    assert fix(report)[0].name == "panoptic.json.before-fix-2"


def test_fix_keeps_what_the_png_does_not_settle(dataset):
    folder, content, rewrite = dataset
    # The PNG has 7, the JSON 8: which of them is wrong, nobody knows. 300 is plain.
    segments = content["annotations"][0]["segments_info"]
    changed = [{**segments[0], "id": 8}, {**segments[1], "area": 1}]
    report = validate(rewrite(**with_segments(content, changed)), None, 1)
    assert "2 segments" not in report.text(5)
    assert [p.kind for p in report.problems if p.can_be_fixed] == ["Areas and boxes"]
    fix(report)
    written = json.loads((folder / "panoptic.json").read_text())
    assert written["annotations"][0]["segments_info"] == [segments[1], changed[0]]

    # The PNG is of another image: iscrowd alone is settled.
    wrong = rewrite(**with_segment(content, iscrowd=None))
    Image.new("RGB", (5, 4)).save(folder / "panoptic/a.png")
    report = validate(wrong, None, 1)
    assert [(p.kind, p.can_be_fixed) for p in report.problems] == [
        ("iscrowd", True),
        ("Sizes", False),
    ]
    fix(report)
    assert json.loads((folder / "panoptic.json").read_text()) == content


def test_nothing_is_fixed_where_ids_are_not_unique(dataset):
    folder, content, rewrite = dataset
    wrong = rewrite(**with_segment(content, area=1), images=content["images"] * 2)
    before = (folder / "panoptic.json").read_bytes()
    with pytest.raises(UserError, match=r"Nothing was fixed, .* two images have the id 5"):
        fix(validate(wrong, None, 1))
    assert (folder / "panoptic.json").read_bytes() == before


def test_grey_ids_are_recognised_and_nothing_is_fixed_away(dataset):
    folder, content, rewrite = dataset
    segments = content["annotations"][0]["segments_info"]
    small = [{**s, "id": n, "area": 1} for n, s in enumerate(segments, 1)]
    changed = rewrite(**with_segments(content, small))
    ids = np.asarray(Image.open(folder / "panoptic/a.png"))[..., 0]
    grey = np.select([ids == 7, ids == 300 % 256], [1, 2], 0).astype(np.uint8)
    Image.fromarray(grey).save(folder / "panoptic/a.png")
    report = validate(changed, None, 1)
    assert [p.kind for p in report.problems] == ["Ids of another form"]
    assert "grey values" in report.problems[0].sentence
    assert report.inspections[0].annotation["segments_info"] == small


def test_fix_never_takes_all_segments_of_an_image(dataset):
    folder, _, rewrite = dataset
    paths = rewrite()
    Image.new("RGB", (6, 4)).save(folder / "panoptic/a.png")
    before = (folder / "panoptic.json").read_bytes()
    report = validate(paths, None, 1)
    with pytest.raises(UserError, match="image 5 would lose all of its segments"):
        fix(report)
    assert (folder / "panoptic.json").read_bytes() == before


def test_areas_and_boxes_are_those_of_a_loop_over_pixels(dataset):
    folder, content, rewrite = dataset
    ids = np.random.default_rng(0).choice([0, 5, 300, 70000, 2**24 - 1], (9, 11))
    listed = [{"id": int(i), "category_id": 9} for i in np.unique(ids) if i]
    fix(validate(rewrite(ids=ids, **with_segments(content, listed)), None, 1))
    written = json.loads((folder / "panoptic.json").read_text())
    for info in written["annotations"][0]["segments_info"]:
        rows, columns = zip(*[p for p in np.ndindex(ids.shape) if ids[p] == info["id"]])
        x, y = min(columns), min(rows)
        assert info["area"] == len(rows)
        assert info["bbox"] == [x, y, max(columns) + 1 - x, max(rows) + 1 - y]


@pytest.fixture
def other_split(tmp_path):
    """A function that writes an image, and a JSON that lists it."""

    def write(file_name: str, pixels: np.ndarray) -> tuple[str, str]:
        folder = tmp_path / "other"
        folder.mkdir()
        Image.fromarray(pixels).save(folder / file_name)
        image = {"id": 1, "file_name": file_name, "height": 4, "width": 6}
        annotation = {"image_id": 1, "file_name": "1.png", "segments_info": []}
        categories = [{"id": 3, "name": "car", "isthing": 1}]
        content = {"images": [image], "annotations": [annotation], "categories": categories}
        (tmp_path / "other.json").write_text(json.dumps(content))
        return str(folder), str(tmp_path / "other.json")

    return write


def test_overlap_is_found_by_pixels(dataset, other_split):
    folder, _, rewrite = dataset
    changed = rewrite()
    pixels = np.asarray(Image.open(folder / "images/a.png"))
    found = problems_of(changed, against=other_split("elsewhere.bmp", pixels))
    assert [(kind, wrong) for kind, _, wrong in found] == [("Overlap", True)]
    assert "a.png has the pixels of elsewhere.bmp of" in found[0][1]


def test_equal_names_of_other_pixels_are_told_but_not_wrong(dataset, other_split):
    _, _, rewrite = dataset
    found = problems_of(rewrite(), against=other_split("a.png", np.zeros((4, 6, 3), np.uint8)))
    assert [(kind, wrong) for kind, _, wrong in found] == [("Equal names", False)]


def test_equal_images_of_one_dataset_are_told(dataset):
    folder, content, rewrite = dataset
    changed = rewrite(
        images=[*content["images"], {**content["images"][0], "id": 6, "file_name": "b.png"}],
        annotations=[
            *content["annotations"],
            {**content["annotations"][0], "image_id": 6, "file_name": "b.png"},
        ],
    )
    for part in ("images", "panoptic"):
        (folder / part / "b.png").write_bytes((folder / part / "a.png").read_bytes())
    found = problems_of(changed)
    assert [(kind, wrong) for kind, _, wrong in found] == [("Equal images", False)]
    assert found[0][1].startswith("a.png and b.png have the same pixels")


def test_workers_find_the_same(dataset):
    _, content, rewrite = dataset
    changed = rewrite(**with_segment(content, area=5))
    assert validate(changed, None, 1) == validate(changed, None, 2)


@pytest.mark.parametrize("most, queries", [(0, 100), (66, 100), (67, 110), (200, 300)])
def test_queries_leave_a_margin(most, queries):
    assert suitable_queries(most) == queries


def test_datasets_are_named_by_folder_and_split():
    assert dataset_name("/data/cam.vid/panoptic_train.json") == "cam_vid_train"


def test_real_photographs_are_valid(photographs):
    root = photographs / "coco_panoptic_sample"
    dataset = Dataset(*(str(root / name) for name in ("images", "panoptic", "panoptic.json")))
    assert validate(dataset, None, 1).problems == []


def test_training_and_validation_say_the_same(dataset):
    """What stops a mapper is what the report says."""
    _, content, rewrite = dataset
    ((_, sentence, _),) = problems_of(
        rewrite(**with_segments(content, [content["annotations"][0]["segments_info"][1]]))
    )
    with pytest.raises(UserError) as error:
        number_segments(np.array([[0, 7, 300]]), [300], "a.png (image 5)")
    assert str(error.value) == sentence
