"""Maps of ids in other forms than COCO's: never scaled, recognised, converted."""

import cv2
import numpy as np
import pytest
from PIL import Image

from detr_d2.data.id_maps import meant_form, read_id_map, read_listed
from detr_d2.data.panoptic_map import read_panoptic_png, write_panoptic_png
from detr_d2.errors import UserError

SMALL = np.array([[0, 1, 1], [7, 200, 0]])
LARGE = np.array([[0, 1, 300], [70000, 2**24 - 1, 65536]])


@pytest.fixture
def png(tmp_path):
    return tmp_path / "a.png"


def save_grey16(path, ids):
    Image.fromarray(ids.astype(np.uint16)).save(path)


def save_grey(path, ids):
    Image.fromarray(ids.astype(np.uint8)).save(path)


def save_palette(path, ids):
    picture = Image.fromarray(ids.astype(np.uint8), mode="P")
    picture.putpalette(np.random.randint(1, 255, 768).astype(np.uint8).tobytes())
    picture.save(path)


def save_exchanged(path, ids):
    """RGB as it should be, given to OpenCV, which wants BGR."""
    cv2.imwrite(str(path), np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1))


def save_three_equal(path, ids):
    Image.fromarray(np.stack([ids.astype(np.uint8)] * 3, -1)).save(path)


def save_grey_and_alpha(path, ids):
    Image.fromarray(np.dstack([ids, np.full_like(ids, 255)]).astype(np.uint8), "LA").save(path)


def save_colours16(path, ids):
    """RGB as it should be, in 16 bits."""
    bgr = np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1)
    cv2.imwrite(str(path), bgr.astype(np.uint16))


def save_stretched(path, ids):
    """8 bits, stretched to 16 as image programs do: 255 becomes 65535."""
    bgr = np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1)
    cv2.imwrite(str(path), (bgr * 257).astype(np.uint16))


def save_grey_stretched(path, ids):
    Image.fromarray((ids * 257).astype(np.uint16)).save(path)


def save_shifted(path, ids):
    bgr = np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1)
    cv2.imwrite(str(path), (bgr << 8).astype(np.uint16))


def save_exchanged16(path, ids):
    bgr = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
    cv2.imwrite(str(path), bgr.astype(np.uint16))


ONE_CHANNEL = [save_grey16, save_grey, save_palette, save_three_equal, save_grey_and_alpha]
FORMS = {
    "value": [*ONE_CHANNEL, save_colours16],
    "scaled": [save_stretched, save_grey_stretched, save_shifted],
    "bgr": [save_exchanged, save_exchanged16],
}
COLOURS = (save_exchanged, save_exchanged16, save_colours16, save_stretched, save_shifted)


@pytest.mark.parametrize("form, save", [(f, s) for f, some in FORMS.items() for s in some])
def test_ids_are_read_unscaled(png, form, save):
    ids = LARGE if save in COLOURS else SMALL
    save(png, ids)
    assert np.array_equal(read_id_map(png, form=form), ids)


def test_sixteen_bits_keep_their_ids(png):
    save_grey16(png, np.array([[0, 255, 256], [65535, 1, 2]]))
    assert read_id_map(png, form="value").tolist() == [[0, 255, 256], [65535, 1, 2]]


@pytest.mark.parametrize("save", [save_grey16, save_colours16])
def test_sixteen_bits_are_never_read_as_rgb(png, save):
    save(png, SMALL)
    with pytest.raises(UserError, match=r"of more than 8 bits.*--ids value"):
        read_panoptic_png(png)


def test_rgb_is_as_before(png):
    write_panoptic_png(png, LARGE)
    assert np.array_equal(read_id_map(png), LARGE)
    assert meant_form(png, [5]) is None
    for form in ("value", "scaled"):
        with pytest.raises(UserError, match=f"is no map of --ids {form}: leave that out"):
            read_id_map(png, form=form)


@pytest.mark.parametrize(
    "save, words",
    [
        (save_grey, "its ids are grey values"),
        (save_three_equal, "its ids are grey values"),
        (save_grey_and_alpha, "its ids are grey values"),
        (save_palette, "its ids are palette indices"),
        (save_exchanged, "red and blue are exchanged"),
        (save_exchanged16, "red and blue are exchanged"),
        (save_grey16, "its ids are grey values"),
        (save_colours16, "its ids have 16 bits"),
        (save_stretched, "its ids are 257 or 256 times what they should be, in 16 bits"),
        (save_grey_stretched, "its ids are 257 or 256 times what they should be, in 16 bits"),
    ],
)
def test_what_was_meant_is_recognised(png, save, words):
    save(png, SMALL)
    sentence = meant_form(png, [1, 7, 200, 9])
    assert words in sentence and "--ids" in sentence
    assert meant_form(png, [1, 7]) is None  # 200 is not listed either way
    assert meant_form(png, []) is None


@pytest.mark.parametrize("form, save", [(f, s) for f, some in FORMS.items() for s in some])
def test_what_is_read_rightly_is_of_no_other_form(png, form, save):
    ids = np.array([[0, 1, 65793], [65793 * 7, 0, 1]]) if save in COLOURS else SMALL
    save(png, ids)
    assert meant_form(png, [*np.unique(ids).tolist(), 9], form) is None


@pytest.mark.parametrize("save", [save_stretched, save_grey_stretched, save_shifted])
def test_ids_that_are_listed_tell_what_sixteen_bits_are(png, save):
    save(png, SMALL)
    with pytest.raises(
        UserError, match=r"257 or 256 times what they should be.*panoptic --ids scaled"
    ):
        read_listed(png, [1, 7, 200])
    assert "--ids scaled" in meant_form(png, [1, 7, 200], "value")
    with pytest.raises(UserError, match=r"--ids value, or --ids scaled"):
        read_listed(png, [5])


def test_a_map_of_void_alone_is_of_no_form(png):
    save_grey(png, np.zeros((2, 3)))
    assert meant_form(png, [1]) is None
