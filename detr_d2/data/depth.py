"""Images of more than 8 bits a channel, brought to 8: which of their values is white?"""

import logging
import os

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..errors import UserError

WHITE = 2**16 - 1  # of 16 bits a channel
_SMALL_PART = 4  # of what 16 bits can hold: cameras of 14 bits and less use that much

logger = logging.getLogger(__name__)

_warned: set[int] = set()  # of which likely whites, in this process


def has_16_bits(image: Image.Image) -> bool:
    """Whether a channel has 16 bits, of an image that is opened and not read yet.

    Pillow gives those of colours as mode "RGB", with the upper 8 bits alone.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return True
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def read_16_bits(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """(H, W) uint16 of a grey image, (H, W, 3) of any other, whose alpha is left out.

    Args:
        image: what is in the file at `path`.
    """
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    import cv2  # which reads what Pillow cuts; Detectron2's drawing needs it as well

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    with open(PathManager.get_local_path(os.fspath(path)), "rb") as file:
        pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError(f"{path} has 16 bits a channel and cannot be read: write it with 8.")
    pixels = np.atleast_3d(pixels)
    return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., 2::-1]


def in_8_bits(values: np.ndarray, white: int) -> np.ndarray:
    """uint16 -> uint8, with `white` as 255; what is brighter is white as well."""
    if white != WHITE:
        values = np.minimum(values, white).astype(np.uint32) * WHITE // white
    return (values >> 8).astype(np.uint8)


def darkness(brightest: int, white: int) -> str | None:
    """What is said of 16 bits of which a small part is used; None where there is nothing to say."""
    if brightest >= white / _SMALL_PART:
        return None
    return (
        f"16 bits a channel and no value above {brightest}, so that all is dark where {white} is "
        f"white: set INPUT.WHITE, to {_likely_white(brightest)} perhaps."
    )


def warn_of_darkness(values: np.ndarray, name: str, white: int) -> None:
    """Log it, once for each likely white."""
    brightest = int(values.max(initial=0))
    said = darkness(brightest, white)
    if said and _likely_white(brightest) not in _warned:
        _warned.add(_likely_white(brightest))
        logger.warning("%s has %s", name, said)


def _likely_white(brightest: int) -> int:
    """The greatest value of the bits that are used, 8 at least."""
    return 2 ** max(8, brightest.bit_length()) - 1
