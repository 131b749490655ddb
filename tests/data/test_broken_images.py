"""Images that cannot be read, in a training's loader."""

from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from detr_d2.data.broken_images import BrokenImages
from detr_d2.data.checks import check_dataset
from detr_d2.data.images import read_image
from detr_d2.data.training_loader import Order, build_training_loader
from detr_d2.errors import UserError
from tests.data.test_training_loader import Endless


@pytest.fixture
def dicts(tmp_path):
    """Of ten images; the fourth and the sixth are no images, and the sixth has a name of its own
    kind of trouble."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (4 + number % 2, 4)).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:40])
    (folder / "5.png").unlink()
    return [
        {"image_id": n, "file_name": str(folder / f"{n}.png"), "width": 4 + n % 2, "height": 4}
        for n in range(10)
    ]


def mapper(image: dict) -> str:
    read_image(image["file_name"])
    return image["file_name"]


def plain_mapper(image: dict) -> str:
    """As Detectron2's, whose errors are Pillow's."""
    with Image.open(image["file_name"]) as opened:
        opened.load()
    return image["file_name"]


def load(dicts, mapper, policy, folder, num_workers, share=0.2, count=20):
    loader = build_training_loader(
        dicts,
        mapper,
        Endless(),
        Order(3, 1, 2),
        broken_images=BrokenImages(policy, share, str(folder)),
        iteration=0,
        group_by_shape=False,
        num_workers=num_workers,
    )
    return [name for batch in islice(loader, count) for name in batch]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("reading", [mapper, plain_mapper])
def test_the_first_ends_it_with_a_sentence(dicts, tmp_path, reading, num_workers):
    with pytest.raises(UserError) as error:
        load(dicts, reading, "raise", tmp_path, num_workers)
    assert "3.png" in str(error.value) and "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)
    assert not (tmp_path / "broken_images.txt").exists()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("reading", [mapper, plain_mapper])
def test_others_take_their_places(dicts, tmp_path, reading, num_workers):
    loaded = load(dicts, reading, "skip", tmp_path, num_workers)
    assert len(loaded) == 40
    assert all("3.png" not in name and "5.png" not in name for name in loaded)
    named = (tmp_path / "broken_images.txt").read_text().splitlines()
    assert {line.split("\t")[0] for line in named} == {dicts[n]["file_name"] for n in (3, 5)}
    assert all(line.split("\t")[1] for line in named)
    # Which ones do follows from the seed.
    assert load(dicts, reading, "skip", tmp_path, 0) == loaded


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_end_it(dicts, tmp_path, num_workers):
    with pytest.raises(UserError, match=r"^2 of 10 images cannot be trained on.*0\.1.*broken_im"):
        load(dicts, mapper, "skip", tmp_path, num_workers, share=0.1)


def test_the_check_before_a_training_counts_them(dicts, tmp_path, caplog):
    with pytest.raises(UserError, match=r"3\.png"):
        check_dataset(dicts, "mine", BrokenImages("raise", 0.2, str(tmp_path)))
    check_dataset(dicts, "mine", BrokenImages("skip", 0.2, str(tmp_path)))
    assert "5.png" in caplog.text
    with pytest.raises(UserError, match="2 of 10 images"):
        check_dataset(dicts, "mine", BrokenImages("skip", 0.1, str(tmp_path)))


def test_another_policy_is_refused():
    with pytest.raises(UserError, match="set raise or skip"):
        BrokenImages("ignore", 0.1, "")


def test_a_full_disk_is_said(dicts, tmp_path, caplog):
    broken = BrokenImages("skip", 0.2, str(tmp_path))
    broken.file = Path("/dev/full")
    broken.meet(dicts[3], OSError("truncated"), 10)
    assert "cannot be written" in caplog.text and "3.png" in caplog.text
