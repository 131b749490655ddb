"""JSONs as annotation tools and scripts write them."""

import json
from pathlib import Path

import pytest
from panoptic_files import read_written, save_noise

from detr_d2.data.preparation import from_instances, write_panoptic
from detr_d2.errors import UserError

SQUARE = [1, 2, 5, 2, 5, 4, 1, 4]
CITY = "bonn/bonn_1_leftImg8bit.png"
BLOCK = frozenset((y, x) for y in (2, 3) for x in (1, 2, 3, 4))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in (
        "a.jpg",
        "sub/b.jpg",
        "sub/c.JPG",
        "one/d.jpg",
        "two/d.jpg",
        CITY,
        "caf\u00e9 1.jpg",
    ):
        save_noise(tmp_path / "images" / name, 6, 8)
    return tmp_path


def content_of(file_name="a.jpg", **annotation) -> dict:
    annotation = {
        "id": 1,
        "image_id": 9,
        "category_id": 3,
        "segmentation": [SQUARE],
        **annotation,
    }
    return {
        "images": [{"id": 9, "file_name": file_name, "height": 6, "width": 8}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "car"}],
    }


def convert(folder: Path, content: dict, encoding="utf-8", **options) -> tuple[dict, list]:
    path = folder / "instances.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    source = from_instances(folder / "images", path)
    remarks = write_panoptic(source, folder / "out", "train", workers=1, **options).remarks
    return read_written(folder / "out"), [*source.notes, *remarks.elements()]


POINTS = [[1, 2], [5, 2], [5, 4], [1, 4]]


@pytest.mark.parametrize("segmentation", [SQUARE, POINTS, [POINTS]])
def test_a_flat_polygon_and_points_are_polygons(folder, segmentation):
    found, _ = convert(folder, content_of(segmentation=segmentation))
    assert found["a.jpg"] == [(3, 0, BLOCK)]


@pytest.mark.parametrize("kind", [float, str, lambda n: f"{n}.0"])
def test_numbers_may_be_floats_and_text(folder, kind):
    content = content_of(
        category_id=kind(3), iscrowd=kind(0), segmentation=[[str(x) for x in SQUARE]]
    )
    content["categories"][0].update(id=kind(3), isthing=kind(1))
    content["annotations"][0]["image_id"] = kind(9)
    content["images"][0].update(height=kind(6), width=kind(8))
    found, _ = convert(folder, content)
    assert found["a.jpg"] == [(3, 0, BLOCK)]


def test_ids_of_images_that_are_text_stay_text(folder):
    content = content_of(image_id="09")
    content["images"][0]["id"] = "09"
    convert(folder, content)
    written = json.loads((folder / "out/panoptic_train.json").read_text())
    assert written["images"][0]["id"] == written["annotations"][0]["image_id"] == "09"


@pytest.mark.parametrize("listed, named", [("7", 7), ("007", 7), (7, "7"), (7, "7.0"), (7, 7.0)])
def test_images_are_named_by_number_or_text(folder, listed, named):
    content = content_of(image_id=named)
    content["images"][0]["id"] = listed
    found, _ = convert(folder, content)
    assert found["a.jpg"] == [(3, 0, BLOCK)]


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_flags_that_are_null_are_not_there(folder, nothing):
    content = content_of(iscrowd=nothing)
    content["categories"][0]["isthing"] = nothing
    found, _ = convert(folder, content)
    assert found["a.jpg"] == [(3, 0, BLOCK)]


@pytest.mark.parametrize("size", [(float("nan"), 8), (float("inf"), 8), (None, None), (-1, -1)])
def test_sizes_that_are_none_are_those_of_the_file(folder, size):
    content = content_of()
    content["images"][0].update(height=size[0], width=size[1])
    assert convert(folder, content)[0]["a.jpg"] == [(3, 0, BLOCK)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_byte_order_mark_is_no_content(folder, encoding):
    content = content_of()
    content["categories"][0]["name"] = "Straße"
    convert(folder, content, encoding=encoding)
    written = json.loads((folder / "out/panoptic_train.json").read_text(encoding="utf-8"))
    assert written["categories"][0]["name"] == "Straße"


@pytest.mark.parametrize(
    "listed, found",
    [
        ("sub\\b.jpg", "sub/b.jpg"),
        ("sub/c.jpg", "sub/c.JPG"),
        ("/data/upload/1/sub/b.jpg", "sub/b.jpg"),
        ("C:\\pictures\\a.jpg", "a.jpg"),
        ("../../media/b.jpg", "sub/b.jpg"),
        ("https://example.com/sub/b.jpg", "sub/b.jpg"),
        ("/elsewhere/two/d.jpg", "two/d.jpg"),
        ("cafe\u0301 1.jpg", "caf\u00e9 1.jpg"),  # macOS
        ("caf%C3%A9%201.jpg", "caf\u00e9 1.jpg"),
        ("https://example.com/a.jpg?token=1", "a.jpg"),
        ("/data/local-files/?d=sub%5Cb.jpg", "sub/b.jpg"),  # Label Studio
        ("bonn_1_gtFine_leftImg8bit.png", CITY),  # Cityscapes's own script
        ("two/D", "two/d.jpg"),  # without a suffix
        ("./a", "a.jpg"),
        ("c", "sub/c.JPG"),
    ],
)
def test_the_file_that_was_meant_is_found_and_said(folder, listed, found):
    images, said = convert(folder, content_of(listed))
    assert list(images) == [found]
    assert said == [f"1 of 1 images are found under other names, such as {found} for {listed}."]


@pytest.mark.parametrize("listed", ["/elsewhere/d.jpg", "../e.jpg", "e.jpg", "d", "a.png", "e"])
def test_what_could_be_two_files_or_none_is_not_guessed(folder, listed):
    with pytest.raises(UserError, match=r"leaves|does not exist"):
        convert(folder, content_of(listed))
    assert not (folder / "out/panoptic_train.json").exists()


def test_two_images_are_not_one_file(folder):
    content = content_of("/x/a.jpg")
    content["images"].append({**content["images"][0], "id": 10, "file_name": "a.jpg"})
    with pytest.raises(UserError, match=r"images 9 and 10 would both be the file a\.jpg"):
        convert(folder, content)


def test_a_url_is_called_one(folder):
    with pytest.raises(UserError, match=r"image 9 is a URL, http://x\.org/e\.jpg: download"):
        convert(folder, content_of("http://x.org/e.jpg"))


def test_polygons_that_are_shares_of_the_image_are_refused(folder):
    shares = [x / 10 for x in SQUARE]
    with pytest.raises(UserError, match="all polygons lie between 0 and 1"):
        convert(folder, content_of(segmentation=[shares]))


def test_polygons_that_reach_beyond_the_image_are_counted(folder):
    _, said = convert(folder, content_of(segmentation=[[1, 2, 50, 2, 50, 4, 1, 4]]))
    assert any("reach beyond their image" in remark for remark in said)
    assert not any("beyond" in s for s in convert_again(folder, [[-1, 2, 9, 2, 9, 4, 1, 4]]))


def convert_again(folder: Path, segmentation: list) -> list[str]:
    (folder / "out").rename(folder / "before")
    return convert(folder, content_of(segmentation=segmentation))[1]


def bad_annotations(count: int) -> list[dict]:
    good = content_of()["annotations"][0]
    bad = [
        {**good, "segmentation": []},
        {**good, "category_id": 4},
        {**good, "image_id": 8},
        {**good, "iscrowd": 2},
        {k: v for k, v in good.items() if k != "segmentation"},
        {**good, "segmentation": ["x"] * 6},
    ]
    return [{**bad[n % 6], "id": n} for n in range(count)] + [{**good, "id": count}]


def test_all_bad_annotations_are_told_at_once(folder):
    content = content_of()
    content["annotations"] = bad_annotations(12)
    with pytest.raises(UserError) as error:
        convert(folder, content)
    lines = str(error.value).splitlines()
    assert len(lines) == 12 and lines[10] == "and 2 more."
    assert "annotation 1 has category 4" in lines[0]
    assert "4 without a mask, 2 of no category, 2 of no image, 2 with a wrong iscrowd" in lines[-1]
    assert "--skip-bad" in lines[-1]
    assert not list(folder.glob("out/*"))


def test_annotations_that_are_null_are_bad_ones(folder):
    content = content_of()
    content["annotations"][:0] = [None, "x"]
    with pytest.raises(UserError) as error:
        convert(folder, content)
    first, second, last = str(error.value).splitlines()
    assert "instances.json, number 1 of `annotations` is null, no object" in first
    assert 'number 2 of `annotations` is "x", no object' in second
    assert last.startswith("2 without anything: ")
    found, said = convert(folder, content, skip_bad=True)
    assert found["a.jpg"] == [(3, 0, BLOCK)]
    assert said == ["annotations without anything: left out"] * 2


@pytest.mark.parametrize("key", ["images", "categories"])
def test_what_is_null_in_a_list_is_named(folder, key):
    content = content_of()
    content[key].append(None)
    with pytest.raises(UserError, match=rf"has no list {key} of objects, .*: number 2 is null\."):
        convert(folder, content)


@pytest.mark.parametrize("line", ["sub/b.jpg", "sub\\B.jpg", "images/sub/b.jpg", "sub/b", "b"])
def test_a_list_names_images_as_a_json_does(folder, line):
    content = content_of()
    content["images"].append({**content["images"][0], "id": 10, "file_name": "sub/b.jpg"})
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    source = from_instances(folder / "images", path)
    assert [p.file_name for p in source.only([line, line]).pictures] == ["sub/b.jpg"]
    with pytest.raises(UserError, match="no annotated image d, which the list names"):
        source.only(["d"])  # there are two, and neither is annotated


def test_bad_annotations_can_be_left_out_and_are_counted(folder):
    content = content_of()
    content["annotations"] = bad_annotations(6)
    found, said = convert(folder, content, skip_bad=True)
    assert found["a.jpg"] == [(3, 0, BLOCK)]
    assert said.count("annotations without a mask: left out") == 2
    assert len(said) == 6
