"""Images of every format that Pillow reads: upright, with 8 bits a channel."""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n
from PIL import Image

from ..errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
WHITE = 2**16 - 1  # of 16 bits a channel
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
    path: str | os.PathLike, image_format: str = "RGB", where: str = "", white: int = WHITE
) -> np.ndarray:
    """Read an image as the model sees it; see `read_rgb`.

    Args:
        image_format: channels of the result, "RGB" or "BGR"; grey, palette and alpha are converted.
        where: stands behind the path in errors, such as "(image 5)".
        white: its value where a channel has 16 bits.

    Returns:
        (H, W, 3) uint8, upright.
    """
    pixels = np.asarray(read_rgb(path, where, white))
    return np.ascontiguousarray(pixels[:, :, ::-1]) if image_format == "BGR" else pixels


def read_rgb(path: str | os.PathLike, where: str = "", white: int = WHITE) -> Image.Image:
    """Read an image, turned as its EXIF orientation says, in the mode "RGB".

    Unlike Detectron2's `read_image`, it turns a TIFF once (Pillow has turned it already),
    and scales 16 bits to 8 where Pillow would cut everything above 255 to white.

    Raises:
        UserError: where the file is missing, is no whole image, or has more than 16 bits.
    """
    return _as_8_bits(read_upright(path, where), _named(path, where), white).convert("RGB")


def read_upright(path: str | os.PathLike, where: str = "") -> Image.Image:
    """Read an image as it is, in whatever mode, turned as its EXIF orientation says."""
    with open_image(path, where) as image:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(
                f"{_named(path, where)} cannot be read as an image: {error}."
            ) from error
        turn = _TURNS.get(_orientation(image))
        return image if turn is None else image.transpose(turn)


def tensor_of(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) -> a copy, (3, H, W); channels stay last in memory, where the model wants them."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def read_image_size(path: str | os.PathLike, where: str = "") -> tuple[int, int]:
    """(height, width) of the upright image; only the header is read, except of turned TIFFs."""
    return read_size_and_orientation(path, where)[0]


def read_size_and_orientation(
    path: str | os.PathLike, where: str = ""
) -> tuple[tuple[int, int], int]:
    """As `read_image_size`, and by which EXIF orientation, 1 to 8, the image became upright.

    It is 1 for a TIFF, which Pillow turns while it reads it.
    """
    with open_image(path, where) as image:
        orientation = _orientation(image)
        stored: tuple[int, int] = image.height, image.width
        if image.format == "TIFF":  # some versions of Pillow turn its size, some do not
            if orientation >= 5:
                height, width = read_image(path, where=where).shape[:2]
                return (height, width), 1
            return stored, 1
        return stored if orientation < 5 else stored[::-1], orientation


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) of at most 16 bits, as stored -> upright, by an EXIF orientation from 1 to 8."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return pixels
    wide = Image.fromarray(pixels.astype(np.int32))  # a mode that every Pillow turns
    return np.asarray(wide.transpose(turn)).astype(pixels.dtype)


def check_same_size(
    path: str | os.PathLike,
    size: tuple[int, ...],
    image: str | os.PathLike,
    image_size: tuple[int, ...],
) -> None:
    """A `UserError` where a map, named by `path`, does not have its image's (height, width)."""
    if tuple(size) != tuple(image_size):
        raise UserError(
            f"{path} is {size[1]} x {size[0]} pixels, but its image {image} is "
            f"{image_size[1]} x {image_size[0]}: make them the same size."
        )


def open_image(path: str | os.PathLike, where: str = "") -> Image.Image:
    """Open an image file; a `UserError` where it is missing or not an image."""
    name = _named(path, where)
    path = PathManager.get_local_path(os.fspath(path))
    if not os.path.isfile(path):
        raise UserError(
            f"{name} does not exist{_near_match(path)}: put it there, or correct the JSON."
        )
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is not an image: {error}.") from error


def find_image_files(root: str | os.PathLike) -> list[str]:
    """The images in a folder and its sub-folders, relative to it, sorted.

    What macOS leaves in archives, `._name` and `__MACOSX/name`, is no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of the images.")
    files = [p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
    names = (p.relative_to(root) for p in files if not p.name.startswith("._"))
    return sorted(name.as_posix() for name in names if "__MACOSX" not in name.parts)


def _near_match(path: str | os.PathLike) -> str:
    """Names the file that differs in case alone, where there is one."""
    path = Path(path)
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        if file.name.casefold() == path.name.casefold():
            return f" ({file.name} is there)"
    return ""


def _orientation(image: Image.Image) -> int:
    """1 is upright, and so is an image whose EXIF block is broken."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises errors of many kinds here
        return 1


def _as_8_bits(image: Image.Image, name: str, white: int) -> Image.Image:
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if sixteen_bits:
        values = np.asarray(image).astype(np.uint16)
        _warn_of_the_dark(values, name, white)
        if white != WHITE:
            values = np.minimum(values, white).astype(np.uint32) * WHITE // white
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(
            f"{name} has 32 bits a channel, and nothing says which value is white: write it with "
            "8 or 16 bits."
        )
    return image


def _warn_of_the_dark(values: np.ndarray, name: str, white: int) -> None:
    brightest = int(values.max(initial=0))
    if brightest < white / 8:
        likely = 2 ** max(8, brightest.bit_length()) - 1
        log_first_n(
            logging.WARNING,
            f"{name} has 16 bits a channel and no value above {brightest}, so that it is nearly "
            f"black where {white} is white: set INPUT.WHITE, to {likely} perhaps.",
            name=__name__,
            key="caller",
        )


def _named(path: str | os.PathLike, where: str) -> str:
    return f"{path} {where}".rstrip()
