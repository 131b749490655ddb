import json

import numpy as np
import pytest
from panoptic_files import all_bytes, read_written, save, save_noise

from detr_d2.data.preparation import Objects, from_label_maps, panoptic_paths, write_panoptic
from detr_d2.data.preparation.writer import unique_png_names
from detr_d2.errors import UserError

CATEGORIES = [{"id": 1, "name": "road", "isthing": 0}, {"id": 2, "name": "car", "isthing": 1}]


@pytest.fixture
def source(tmp_path):
    """Twenty noisy images in sub-folders, two of each name."""
    random = np.random.default_rng(0)
    for number in range(20):
        name = f"{number % 2}/{number // 2:03d}"
        size = random.integers(4, 9, 2)
        save_noise(tmp_path / f"images/{name}.jpg", *size, seed=number)
        save(tmp_path / f"labels/{name}.png", random.integers(0, 3, size, dtype=np.uint8))
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES))
    return from_label_maps(
        *(tmp_path / name for name in ("images", "labels", "categories.json")), objects=Objects()
    )


def test_any_number_of_workers_writes_the_same_bytes(source, tmp_path):
    for workers in (1, 2, 3):
        write_panoptic(source, tmp_path / str(workers), "train", workers)
    alone = all_bytes(tmp_path / "1")
    assert len(alone) == 21
    assert alone == all_bytes(tmp_path / "2") == all_bytes(tmp_path / "3")


def test_equal_base_names_stay_apart(source, tmp_path):
    write_panoptic(source, tmp_path / "out", "train", 1)
    found = read_written(tmp_path / "out")
    assert len(found) == 20
    assert (tmp_path / "out/panoptic_train/0/000.png").is_file()
    assert (tmp_path / "out/panoptic_train/1/000.png").is_file()


def test_names_that_differ_in_their_suffix_alone_keep_it():
    names = ["x/a.jpg", "x/a.png", "x/b.jpg", "a.jpg", "x/B.tif"]
    expected = ["x/a.jpg.png", "x/a.png.png", "x/b.jpg.png", "a.png", "x/B.tif.png"]
    assert unique_png_names(names) == expected


def test_nothing_is_left_of_what_fails(source, tmp_path):
    save_noise(tmp_path / "labels/1/005.png", 50, 50)
    with pytest.raises(UserError, match=r"1/005\.png \(image 16, 1/005\.jpg\)"):
        write_panoptic(source, tmp_path / "out", "train", 1)
    assert list((tmp_path / "out").iterdir()) == []


def break_two(folder):
    save_noise(folder / "labels/1/005.png", 50, 50)
    (folder / "labels/0/003.png").unlink()


def test_all_images_that_cannot_be_converted_are_told_at_once(source, tmp_path):
    break_two(tmp_path)
    with pytest.raises(UserError) as error:
        write_panoptic(source, tmp_path / "out", "train", 1)
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "0/003.png (image 4, 0/003.jpg) does not exist" in lines[0]
    assert "1/005.png (image 16, 1/005.jpg) is in mode RGB" in lines[1]
    assert lines[2] == "2 images: these cannot be converted. --skip-bad leaves them out."


@pytest.mark.parametrize("workers", [1, 2])
def test_images_that_cannot_be_converted_may_be_left_out(source, tmp_path, workers):
    write_panoptic(source, tmp_path / "whole", "train", 1)
    whole = read_written(tmp_path / "whole")
    break_two(tmp_path)
    written = write_panoptic(source, tmp_path / "out", "train", workers, skip_bad=True)
    found = read_written(tmp_path / "out")
    assert whole.keys() - found.keys() == {"0/003.jpg", "1/005.jpg"}
    assert all(whole[name] == segments for name, segments in found.items())
    assert len(list((tmp_path / "out").rglob("*.png"))) == 18
    first, second = written.images_left_out
    assert "0/003.png" in first and "1/005.png" in second


def test_leaving_out_leaves_an_image(source, tmp_path):
    break_two(tmp_path)
    with pytest.raises(UserError, match="2 images, and no other is left"):
        few = source.only(["0/003.jpg", "1/005.jpg"])
        write_panoptic(few, tmp_path / "out", "train", 1, skip_bad=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_not_overwritten(source, tmp_path):
    write_panoptic(source, tmp_path / "out", "train", 1)
    before = all_bytes(tmp_path / "out")
    with pytest.raises(UserError, match="panoptic_train exists already"):
        write_panoptic(source, tmp_path / "out", "train", 1)
    assert all_bytes(tmp_path / "out") == before


def test_a_file_is_no_folder_to_write_to(source, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out is no folder to write to: Not a directory"):
        write_panoptic(source, tmp_path / "out", "train", 1)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a"])
def test_names_stay_inside_the_folder(tmp_path, name):
    with pytest.raises(UserError, match="is no name for a dataset"):
        panoptic_paths(tmp_path, name)


def test_a_split_depends_on_names_and_seed_alone(source):
    parts = source.split(0.3, seed=1)
    names = {name: {p.file_name for p in part.pictures} for name, part in parts.items()}
    assert {name: len(files) for name, files in names.items()} == {"train": 14, "val": 6}
    assert not names["train"] & names["val"]
    backwards = source.only([p.file_name for p in source.pictures[::-1]]).split(0.3, seed=1)
    assert {p.file_name for p in backwards["val"].pictures} == names["val"]
    other = source.split(0.3, seed=2)
    assert {p.file_name for p in other["val"].pictures} != names["val"]


def test_a_list_chooses_images_and_a_limit_the_first(source):
    assert [p.file_name for p in source.only(["1/003.jpg", "0/002.jpg"]).pictures] == [
        "1/003.jpg",
        "0/002.jpg",
    ]
    assert [p.file_name for p in source.first(2).pictures] == ["0/000.jpg", "0/001.jpg"]
    with pytest.raises(UserError, match=r"no annotated image lost\.jpg"):
        source.only(["lost.jpg"])
    with pytest.raises(UserError, match="leaves train or val without images"):
        source.split(0.01, seed=0)
    for share in (-1, 1, float("nan")):
        with pytest.raises(UserError, match="is no share"):
            source.split(share, seed=0)
    for limit in (0, -1):
        with pytest.raises(UserError, match="leaves no image"):
            source.first(limit)
