import pytest
from PIL import Image

from detr_d2.data.checks import check_dataset
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
