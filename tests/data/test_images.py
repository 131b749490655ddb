import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detr_d2.data import depth
from detr_d2.data.depth import GreyLevels
from detr_d2.data.images import (
    find_image_files,
    on_disk,
    read_image,
    read_image_size,
    read_upright,
)
from detr_d2.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
LOSSLESS = {"png": {}, "tif": {}, "bmp": {}, "webp": {"lossless": True}}
UPRIGHT = {  # EXIF orientation: what has to be done with the stored pixels
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_colours_are_kept_to_the_bit(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, **LOSSLESS[suffix])
    assert np.array_equal(read_image(path), PIXELS)
    assert np.array_equal(read_image(path, "BGR"), PIXELS[..., ::-1])
    assert read_image_size(path) == (4, 6)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_once(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path, exif=exif, **LOSSLESS[suffix])
    expected = UPRIGHT[orientation](PIXELS)
    assert np.array_equal(read_image(path), expected)
    assert read_image_size(path) == expected.shape[:2]


def test_a_broken_exif_block_does_not_lose_the_image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\x00\x00MM\x00*no such thing")
    assert np.array_equal(read_image(path), PIXELS)
    assert read_image_size(path) == (4, 6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_palette_and_alpha_become_colours(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    grey = PIXELS[..., 0]
    Image.fromarray(grey).save(path)
    assert np.array_equal(read_image(path), np.stack([grey] * 3, axis=2))
    Image.fromarray(np.dstack([PIXELS, grey])).save(path)
    assert np.array_equal(read_image(path), PIXELS)
    palette = Image.fromarray(PIXELS).quantize(5)
    palette.save(path)
    assert np.array_equal(read_image(path), np.asarray(palette.convert("RGB")))
    Image.fromarray(grey > 127).save(path)
    assert set(np.unique(read_image(path))) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_thirty_two_bits_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((2, 3), dtype=np.float32)).save(path)
    with pytest.raises(UserError, match=r"a\.tif \(image 3\) has 32 bits a channel"):
        read_image(path, where="(image 3)")


def test_half_an_image_is_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(
        path
    )
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
        read_image(path)


def test_images_are_found_in_sub_folders(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/a.PNG", "a.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert find_image_files(tmp_path) == ["a.tif", "b/a.PNG"]
    with pytest.raises(UserError, match="nowhere is not a folder"):
        find_image_files(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["a.gif", "a.jfif", "a.jpe", "a.jp2", "a.tga", "a.pgm", "a.PNM"])
def test_images_of_rarer_kinds_are_found_and_read(tmp_path, name):
    kinds = {".gif": "GIF", ".jp2": "JPEG2000", ".tga": "TGA", ".pgm": "PPM", ".pnm": "PPM"}
    kind = kinds.get(Path(name).suffix.lower(), "JPEG")
    Image.new("L", (3, 2), 77).save(tmp_path / name, format=kind)
    assert find_image_files(tmp_path) == [name]
    assert np.array_equal(read_image(tmp_path / name), np.full((2, 3, 3), 77))


def test_a_pgm_of_16_bits_is_scaled_as_a_png_is(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n65535\n" + bytes([255, 255, 127, 255]))
    assert read_image(tmp_path / "a.pgm")[0, :, 0].tolist() == [255, 127]


@pytest.mark.parametrize(
    "content, numbers",
    [
        (b"P5\n2 1\n255\n\1\2", [1, 2]),
        (b"P2\n2 1\n255\n1 2\n", [1, 2]),
        (b"P5\n2 1\n65535\n\0\1\2\1", [1, 513]),
        (b"P5\n2 1\n7\n\1\2", None),
        (b"P5\n2 1\n4095\n\0\1\2\1", None),
    ],
)
def test_maps_whose_numbers_would_be_stretched_are_refused(tmp_path, content, numbers):
    (tmp_path / "a.pgm").write_bytes(content)
    if numbers is None:
        with pytest.raises(UserError, match=r"a\.pgm \(image 1\) has a greatest value .* as PNG"):
            read_upright(tmp_path / "a.pgm", "(image 1)", is_map=True)
    else:
        image, _ = read_upright(tmp_path / "a.pgm", is_map=True)
        assert np.asarray(image).tolist() == [numbers]


def test_what_macos_leaves_in_archives_is_no_image(tmp_path):
    for name in ("a.png", "._a.png", "__MACOSX/a.png", "sub/._b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    assert find_image_files(tmp_path) == ["a.png"]


def test_a_file_whose_name_differs_in_case_is_named(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.PNG")
    with pytest.raises(UserError, match=r"a.png does not exist \(a.PNG is there\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix, orientation", [("png", 1), ("png", 6), ("tif", 1)])
def test_colours_of_sixteen_bits_are_scaled_by_what_is_white(tmp_path, suffix, orientation):
    values = np.random.default_rng(0).integers(0, 4096, (4, 6, 3), dtype=np.uint16)
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), values[..., ::-1])
    if orientation > 1:
        insert_exif(path, orientation)
    expected = UPRIGHT[orientation](values.astype(int) * 65535 // 4095 >> 8)
    assert np.array_equal(read_image(path, levels=GreyLevels(white=4095)), expected)


def insert_exif(path, orientation):
    """Into a PNG as it is, since Pillow would write 8 bits."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + content
    data = path.read_bytes()
    head = 8 + 25  # the signature, IHDR
    chunk = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:head] + chunk + data[head:])


def test_each_likely_white_is_warned_of_once(tmp_path, caplog):
    depth._warned.clear()
    for name, brightest in (("a", 4000), ("b", 3000), ("c", 200), ("d", 16000), ("e", 40000)):
        Image.fromarray(np.array([[0, brightest]], dtype=np.uint16)).save(tmp_path / f"{name}.png")
        read_image(tmp_path / f"{name}.png")
    assert [record.args[0].rpartition("/")[2] for record in caplog.records] == [
        "a.png",
        "c.png",
        "d.png",
    ]


def test_levels_that_were_told_before_are_told_once_where_they_do(tmp_path, caplog):
    depth._warned.clear()
    # The second image alone would ask for 896 and 2336, which cut the first.
    for name, least, most in (("a", 544, 3136), ("b", 896, 2336), ("c", 3000, 3200)):
        Image.fromarray(np.array([[least, most]], dtype=np.uint16)).save(tmp_path / f"{name}.png")
        read_image(tmp_path / f"{name}.png")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "a.png" in said[0] and "set INPUT.WHITE, to 4095 perhaps" in said[0]
    assert "c.png" in said[1] and "to 3000 and 3200 perhaps" in said[1]


def test_names_on_disk(tmp_path):
    for name in ("Sub/A.jpg", "Sub/caf\u00e9.png", "b.png", "B.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert on_disk(tmp_path, "sub/a.JPG") == "Sub/A.jpg"
    assert on_disk(tmp_path, "sub\\cafe\u0301.png") == "Sub/caf\u00e9.png"
    assert on_disk(tmp_path, "B.png") == "B.png"
    for name in ("B.PNG", "sub/c.png", "other/a.jpg"):  # two files, or none
        assert on_disk(tmp_path, name) == name


def test_what_is_white_can_be_told_and_the_dark_is_warned_of(tmp_path, caplog):
    depth._warned.clear()
    values = np.array([[0, 16, 2047, 4095, 9000]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", levels=GreyLevels(white=4095))
    assert found[0, :, 0].tolist() == [0, 1, 127, 255, 255]
    assert not caplog.records
    Image.fromarray(values[:, :4]).save(tmp_path / "b.png")
    read_image(tmp_path / "b.png")
    assert "b.png has 16 bits a channel and values from 0 to 4095 alone" in caplog.text
    assert "set INPUT.WHITE, to 4095 perhaps" in caplog.text


def test_what_is_black_can_be_told(tmp_path):
    values = np.array([[0, 1000, 1016, 3047, 5095, 9000]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", levels=GreyLevels(1000, 5095))
    assert found[0, :, 0].tolist() == [0, 0, 1, 127, 255, 255]


def test_values_of_a_tiff_may_be_negative(tmp_path):
    values = np.array([[-1024, -1, 0, 1023, 3071]], dtype=np.int16)
    cv2.imwrite(str(tmp_path / "a.tif"), values)
    levels = GreyLevels(-1024, 3071)
    assert read_image(tmp_path / "a.tif", levels=levels)[0, :, 0].tolist() == [0, 63, 64, 127, 255]


@pytest.mark.parametrize(
    "least, greatest, likely",
    [
        (0, 4000, "set INPUT.WHITE, to 4095 perhaps"),
        (100, 4000, "set INPUT.WHITE, to 4095 perhaps"),
        (32768, 36863, "set INPUT.BLACK and INPUT.WHITE, to 32768 and 36863 perhaps"),
        (61440, 65535, "set INPUT.BLACK and INPUT.WHITE, to 61440 and 65535 perhaps"),
        (-1024, 3071, "set INPUT.BLACK and INPUT.WHITE, to -1024 and 3071 perhaps"),
    ],
)
def test_values_close_together_are_said_with_the_likely_levels(least, greatest, likely):
    assert likely in depth.low_contrast(least, greatest, GreyLevels())
    assert f"values from {least} to {greatest} alone" in depth.low_contrast(
        least, greatest, GreyLevels()
    )


@pytest.mark.parametrize("levels", [GreyLevels(), GreyLevels(1000, 40000), GreyLevels(0, 4095)])
def test_a_quarter_of_what_is_shown_is_enough(levels):
    middle = (levels.black + levels.white) // 2
    quarter = (levels.white - levels.black) // 4 + 1
    assert depth.low_contrast(middle, middle + quarter, levels) is None
    assert depth.low_contrast(middle, middle + quarter - 2, levels) is not None
    assert depth.low_contrast(middle, middle, levels) is None  # nothing but one value
    # What is beyond black or white is not seen.
    assert depth.low_contrast(levels.white, levels.white + 20000, levels) is not None


def test_black_is_below_white():
    with pytest.raises(UserError, match=r"Black is 9 and white is 9.*INPUT\.BLACK.*--black"):
        GreyLevels.checked(9, 9)
