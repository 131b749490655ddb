"""Images of every format that Pillow reads: upright, with 8 bits a channel."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..errors import UserError
from .depth import (
    ALL_GREY_LEVELS,
    GreyLevels,
    has_16_bits,
    in_8_bits,
    range_of,
    read_16_bits,
    warn_of_low_contrast,
)
from .files import files_below

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".gif", ".webp", ".avif"),
    *(".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pbm", ".pnm"),
}
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    path: str | os.PathLike,
    image_format: str = "RGB",
    where: str = "",
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> np.ndarray:
    """Read an image as the model sees it; see `read_image_and_range`.

    Args:
        image_format: channels of the result, "RGB" or "BGR"; grey, palette and alpha are converted.
        where: stands behind the path in errors, such as "(image 5)".
        levels: what is black and white where a channel has 16 bits.

    Returns:
        (H, W, 3) uint8, upright.
    """
    pixels, _ = read_image_and_range(path, where, levels)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if image_format == "BGR" else pixels


def read_image_and_range(
    path: str | os.PathLike, where: str = "", levels: GreyLevels = ALL_GREY_LEVELS
) -> tuple[np.ndarray, tuple[int, int] | None]:
    """(H, W, 3) uint8 RGB of an image, turned as its EXIF orientation says, scaled to 8 bits.

    Unlike Detectron2's `read_image`, it turns a TIFF once (Pillow has turned it already),
    and scales 16 bits to 8 where Pillow would cut everything above 255 to white.

    Returns:
        The pixels, and the least and greatest value of an image of 16 bits, None of others.

    Raises:
        UserError: where the file is missing, is no whole image, or has more than 16 bits.
    """
    name = _named(path, where)
    upright, is_deep = read_upright(path, where)
    if not is_deep:
        if upright.mode in ("I", "F"):
            raise UserError(
                f"{name} has 32 bits a channel, and nothing says which value is white: write it "
                "with 8 or 16 bits."
            )
        return np.asarray(upright.convert("RGB")), None
    values = read_deep(upright, path, where)
    least, greatest = range_of(values)
    warn_of_low_contrast(least, greatest, name, levels)
    shown = in_8_bits(values, levels)
    if shown.ndim == 2:
        shown = np.repeat(shown[..., None], 3, axis=2)
    return np.ascontiguousarray(shown), (least, greatest)


def read_deep(upright: Image.Image, path: str | os.PathLike, where: str = "") -> np.ndarray:
    """As `read_16_bits`, turned as the EXIF orientation says.

    Args:
        upright: what `read_upright` gives of the file.
    """
    values = read_16_bits(upright, path)
    if values.ndim == 2:
        return values  # it is what was given, which is turned already
    with open_image(path, where) as image:
        orientation = _orientation(image)
    return np.stack([turned(values[..., c], orientation) for c in range(3)], axis=2)


def read_upright(
    path: str | os.PathLike, where: str = "", is_map: bool = False
) -> tuple[Image.Image, bool]:
    """Read an image as it is, in whatever mode, turned as its EXIF orientation says.

    Args:
        is_map: its values are numbers, see `check_is_exact`.

    Returns:
        The image, and whether a channel in the file has 16 bits, of which `read_deep` gives all.
    """
    with open_image(path, where) as image:
        if is_map:
            check_is_exact(image, path, where)
        is_deep = has_16_bits(image)  # which is known before it is read alone
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(
                f"{_named(path, where)} cannot be read as an image: {error}."
            ) from error
        turn = _TURNS.get(_orientation(image))
        return image if turn is None else image.transpose(turn), is_deep


def tensor_of(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) -> a copy, (3, H, W); channels stay last in memory, where the model wants them."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def read_image_size(path: str | os.PathLike, where: str = "") -> tuple[int, int]:
    """(height, width) of the upright image; only the header is read, except of turned TIFFs."""
    return read_size_and_orientation(path, where)[0]


def read_size_and_orientation(
    path: str | os.PathLike, where: str = ""
) -> tuple[tuple[int, int], int]:
    """As `read_image_size`, and by which EXIF orientation, 1 to 8, the image became upright."""
    with open_image(path, where) as image:
        orientation = _orientation(image)
        stored: tuple[int, int] = image.height, image.width
        if orientation < 5:
            return stored, orientation
        if image.format == "TIFF":  # some versions of Pillow turn its size, some do not
            height, width = read_image(path, where=where).shape[:2]
            return (height, width), orientation
        return stored[::-1], orientation


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) of at most 16 bits, as stored -> upright, by an EXIF orientation from 1 to 8."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return pixels
    wide = Image.fromarray(pixels.astype(np.int32))  # a mode that every Pillow turns
    return np.asarray(wide.transpose(turn)).astype(pixels.dtype)


class OtherSize(UserError):
    """A map that does not have its image's size.

    Attributes:
        size: (height, width) of the map.
    """

    def __init__(self, sentence: str, size: tuple[int, ...]):
        super().__init__(sentence)
        self.size = tuple(size)


# What is said of a map whose sides are those of a photograph before it is turned.
AS_STORED = (
    "it is for the photograph as it lies in the file, before its EXIF orientation turns it: "
    "convert it with tools/prepare_dataset.py panoptic --annotated-as-stored."
)


def check_same_size(
    path: str | os.PathLike,
    size: tuple[int, ...],
    image: str | os.PathLike,
    image_size: tuple[int, ...],
    photograph: str | os.PathLike | None = None,
) -> None:
    """An `OtherSize` where a map, named by `path`, does not have its image's (height, width).

    Args:
        photograph: the image's file, whose EXIF orientation may be the reason.
    """
    if tuple(size) == tuple(image_size):
        return
    remedy = "make them the same size."
    if photograph is not None and is_as_stored(photograph, size, image_size):
        remedy = AS_STORED
    raise OtherSize(
        f"{path} is {size[1]} x {size[0]} pixels, but its image {image} is "
        f"{image_size[1]} x {image_size[0]}: {remedy}",
        size,
    )


def is_as_stored(
    photograph: str | os.PathLike, size: tuple[int, ...], upright: tuple[int, ...]
) -> bool:
    """Whether `size` is that of a photograph before its EXIF orientation makes it `upright`."""
    if tuple(size) == tuple(upright) or tuple(size) != tuple(upright)[::-1]:
        return False
    return read_size_and_orientation(photograph)[1] >= 5


def open_image(path: str | os.PathLike, where: str = "") -> Image.Image:
    """Open an image file; a `UserError` where it is missing or not an image."""
    name = _named(path, where)
    path = PathManager.get_local_path(os.fspath(path))
    if not os.path.isfile(path):
        raise UserError(f"{name} does not exist{_near_match(path)}")
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not an image: {error}.") from error


def check_is_exact(image: Image.Image, path: str | os.PathLike, where: str = "") -> None:
    """A `UserError` where a map is kept in a form that changes its numbers, whatever its name.

    Args:
        image: what is in the file at `path`.
    """
    if image.format == "JPEG":
        raise UserError(
            f"{_named(path, where)} is a JPEG, which blurs the numbers of a map, and its edges: "
            "write maps and masks as PNG."
        )
    if image.format == "PPM" and _is_stretched(image):
        raise UserError(
            f"{_named(path, where)} has a greatest value that is neither 255 nor 65535, and its "
            "numbers would be stretched: write maps and masks as PNG."
        )


def _is_stretched(image: Image.Image) -> bool:
    """Whether Pillow stretches the numbers of a PGM, whose greatest value is in its header."""
    decoder, _, _, arguments = image.tile[0]  # type: ignore[attr-defined]  # of files alone
    return (
        decoder.startswith("ppm")
        and isinstance(arguments, tuple)
        and arguments[1] not in (255, 65535)
    )


def find_image_files(root: str | os.PathLike) -> list[str]:
    """The images in a folder and its sub-folders, see `files_below`, relative to it, sorted."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of the images.")
    files = (p for p in files_below(root) if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(file.relative_to(root).as_posix() for file in files)


def _near_match(path: str | os.PathLike) -> str:
    """The end of a sentence, with a file of nearly that name, and the remedy."""
    path = Path(path)
    if path.is_symlink():
        return ": it is a link to nothing. Put the file there that it names."
    files = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    images = [file.name for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    for name in images:
        if folded(name) == folded(path.name):
            fix = "of a panoptic dataset with tools/validate_dataset.py --fix"
            return f" ({name} is there): rename it, or correct the JSON, {fix}."
    stem = Path(folded(path.name)).stem
    others = (f" ({name} is there)" for name in images if Path(folded(name)).stem == stem)
    return f"{next(others, '')}: put it there, or correct its name."


def folded(name: str) -> str:
    """Equal for names that Windows or macOS take for one: é may be one character or two."""
    return unicodedata.normalize("NFC", name).casefold()


def on_disk(root: str | os.PathLike, name: str) -> str:
    r"""The name of what is meant below a folder; `name` itself where nothing or several could be.

    Args:
        name: relative, and right but for its case, its form of Unicode, and \ for /.
    """
    if os.path.exists(os.path.join(root, name)):
        return name
    found = Path(root)
    for part in Path(name.replace("\\", "/")).parts:
        if not (found / part).exists():
            entries = found.iterdir() if found.is_dir() else ()
            near = [e.name for e in entries if folded(e.name) == folded(part)]
            if len(near) != 1:
                return name
            part = near[0]
        found /= part
    return found.relative_to(root).as_posix()


def _orientation(image: Image.Image) -> int:
    """1 is upright, and so is an image whose EXIF block is broken."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises errors of many kinds here
        return 1


def _named(path: str | os.PathLike, where: str) -> str:
    return f"{path} {where}".rstrip()
