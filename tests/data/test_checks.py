import os
from pathlib import Path

import pytest
from PIL import Image

from detr_d2.data import checks
from detr_d2.data.checks import check_dataset, warn_of_too_few_queries
from detr_d2.data.files import is_remote
from detr_d2.errors import UserError


@pytest.fixture
def dicts(tiny_dataset):
    folder, _ = tiny_dataset
    files = {"file_name": folder / "images/a.png", "pan_seg_file_name": folder / "panoptic/a.png"}
    return [{"image_id": 5, **{key: str(path) for key, path in files.items()}}]


def test_a_good_dataset_passes(dicts):
    check_dataset(dicts, "tiny")


def test_an_empty_dataset_is_named():
    with pytest.raises(UserError, match="Dataset tiny has no images"):
        check_dataset([], "tiny")


@pytest.mark.parametrize("key", ["file_name", "pan_seg_file_name"])
def test_missing_files_are_named(dicts, key):
    dicts[0][key] += ".lost"
    with pytest.raises(UserError, match=r"a\.png\.lost \(image 5\) does not exist"):
        check_dataset(dicts, "tiny")


def test_files_that_are_no_images_are_named(dicts):
    with open(dicts[0]["file_name"], "w") as f:
        f.write("text")
    with pytest.raises(UserError, match=r"a\.png \(image 5\) is not an image"):
        check_dataset(dicts, "tiny")


def test_sizes_that_differ_are_named(dicts):
    Image.new("RGB", (6, 5)).save(dicts[0]["file_name"])
    with pytest.raises(UserError, match=r"\(image 5\) is 6 x 4 pixels.*is 6 x 5"):
        check_dataset(dicts, "tiny")


def test_photographs_on_their_side_have_the_size_of_the_upright_one(dicts):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (4, 6)).save(dicts[0]["file_name"], exif=exif)
    check_dataset(dicts, "tiny")


def test_sizes_that_the_json_has_wrong_are_named(dicts):
    dicts[0].update(height=4, width=5)
    with pytest.raises(UserError, match=r"\(image 5\) is 6 x 4 pixels, but the JSON says 5 x 4"):
        check_dataset(dicts, "tiny")


def test_what_was_right_is_not_opened_again(dicts, monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checks, "_LONG", 1)
    opened, read = [], checks.read_image_size
    monkeypatch.setattr(
        checks, "read_image_size", lambda path, where: opened.append(path) or read(path, where)
    )
    image, png = dicts[0]["file_name"], dicts[0]["pan_seg_file_name"]
    check_dataset(dicts, "tiny")
    check_dataset(dicts, "tiny")
    assert opened == [image, png]
    # What differs is looked at: another size in the JSON, other times, other files.
    check_dataset([{**dicts[0], "height": 4, "width": 6}], "tiny")
    os.utime(png, ns=(1, 1))
    check_dataset(dicts, "tiny")
    assert opened == [image, png] * 3
    Path(image).unlink()
    for _ in range(2):  # what is wrong is wrong again
        with pytest.raises(UserError, match="does not exist"):
            check_dataset(dicts, "tiny")
    assert len(opened) == 8


def test_few_images_leave_nothing_in_the_cache(dicts, monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    check_dataset(dicts, "tiny")
    assert not (tmp_path / "cache").exists()


def test_nothing_is_downloaded_to_be_checked(dicts, monkeypatch, caplog):
    caplog.set_level("INFO")
    asked = []
    monkeypatch.setattr("iopath.common.file_io.download", lambda url, *_, **__: asked.append(url))
    remote = {"image_id": 6, "file_name": "https://nowhere.invalid/b.png"}
    half = {**dicts[0], "pan_seg_file_name": "s3://bucket/a.png"}
    check_dataset([remote, dicts[0], half], "tiny")
    assert asked == []
    assert "2 of 3 images of tiny are not on this machine" in caplog.text
    Path(dicts[0]["file_name"]).unlink()
    with pytest.raises(UserError, match="does not exist"):
        check_dataset([remote, dicts[0]], "tiny")
    assert not is_remote("file:///a.png") and not is_remote("C:/a.png") and not is_remote("a")


def test_without_opening_files_a_dataset_still_has_images(dicts):
    Path(dicts[0]["file_name"]).unlink()
    check_dataset(dicts, "tiny", open_files=False)
    with pytest.raises(UserError, match="has no images"):
        check_dataset([], "tiny", open_files=False)


def images_with(*counts):
    return [{"segments_info": [{}] * count} for count in counts]


def test_segments_that_no_query_is_left_for_are_counted(caplog):
    warn_of_too_few_queries([*images_with(3, 8, 0, 6), {"annotations": [{}] * 9}], 5)
    assert caplog.messages == [
        "3 of 5 images have more segments than the 5 queries, up to 9: 8 of 26 segments cannot be "
        "found. Raise MODEL.DETR.NUM_OBJECT_QUERIES."
    ]


def test_nothing_is_said_where_there_are_queries_enough(caplog):
    warn_of_too_few_queries(images_with(3, 5), 5)
    assert caplog.messages == []


def test_segments_of_classes_with_queries_of_their_own_do_not_count(caplog):
    segments = [{"category_id": label} for label in (0, 0, 1, 7, 8)]
    warn_of_too_few_queries([{"segments_info": segments}], 3, fixed_classes=(7, 8))
    assert caplog.messages == []
    warn_of_too_few_queries([{"segments_info": segments}], 2, fixed_classes=(7, 8))
    assert "1 of 1 images have more segments than the 2 queries, up to 3" in caplog.messages[0]
