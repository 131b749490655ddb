"""Images of more than 8 bits a channel, brought to 8: which of their values are black and white?"""

import logging
import os
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..errors import UserError

_TOP = 2**16 - 1  # of 16 bits a channel
_SMALL_PART = 4  # of what 16 bits can hold: cameras of 14 bits and less use that much

logger = logging.getLogger(__name__)

_warned: set["GreyLevels"] = set()  # of which likely levels, in this process


class GreyLevels(NamedTuple):
    """
    Attributes:
        black, white: their values where a channel has 16 bits; what is darker than black is black,
            and what is brighter than white is white.
    """

    black: int = 0
    white: int = _TOP

    @classmethod
    def checked(cls, black: int, white: int) -> "GreyLevels":
        """As the constructor; a `UserError` where black is not below white."""
        if black >= white:
            raise UserError(
                f"Black is {black} and white is {white} in images of 16 bits: let INPUT.BLACK, or "
                "--black, be less than INPUT.WHITE, or --white."
            )
        return cls(black, white)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "GreyLevels":
        """INPUT.BLACK and INPUT.WHITE."""
        return cls.checked(cfg.INPUT.BLACK, cfg.INPUT.WHITE)

    @property
    def options(self) -> dict[str, int]:
        """What differs from 0 and 65535, by name: "black", "white"."""
        usual = GreyLevels()._asdict()
        return {name: level for name, level in self._asdict().items() if level != usual[name]}


ALL_GREY_LEVELS = GreyLevels()


def has_16_bits(image: Image.Image) -> bool:
    """Whether a channel has 16 bits, of an image that is opened and not read yet.

    Pillow gives those of colours as mode "RGB", with the upper 8 bits alone.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return True
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def read_16_bits(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """(H, W) int32 of a grey image, (H, W, 3) of any other, whose alpha is left out.

    Values of a TIFF may be negative.

    Args:
        image: what is in the file at `path`.
    """
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.int32)
    import cv2  # which reads what Pillow cuts; Detectron2's drawing needs it as well

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    with open(PathManager.get_local_path(os.fspath(path)), "rb") as file:
        pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
    if pixels is None or pixels.dtype.itemsize != 2:
        raise UserError(f"{path} has 16 bits a channel and cannot be read: write it with 8.")
    pixels = np.atleast_3d(pixels).astype(np.int32)
    return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., 2::-1]


def in_8_bits(values: np.ndarray, levels: GreyLevels) -> np.ndarray:
    """Integers of any size -> uint8, `levels` of them as 0 and 255."""
    above = np.clip(values, *levels).astype(np.int64) - levels.black
    return (above * _TOP // (levels.white - levels.black) >> 8).astype(np.uint8)


def range_of(values: np.ndarray) -> tuple[int, int]:
    """The least and the greatest of an image's values; both 0 where there is none."""
    return (int(values.min()), int(values.max())) if values.size else (0, 0)


def low_contrast(least: int, greatest: int, levels: GreyLevels) -> str | None:
    """What is said of 16 bits of which a small part is used; None where there is nothing to say.

    Args:
        least, greatest: of the values that are used.
    """
    dark, bright = np.clip((least, greatest), *levels)
    is_wide = bright - dark >= (levels.white - levels.black) / _SMALL_PART
    if is_wide or least == greatest:  # an image of one value alone, as where nothing was lit
        return None
    black, white = _likely(least, greatest)
    keys = f"INPUT.WHITE, to {white} perhaps"
    if black != 0:
        keys = f"INPUT.BLACK and INPUT.WHITE, to {black} and {white} perhaps"
    return (
        f"16 bits a channel and values from {least} to {greatest} alone, which is next to nothing "
        f"where {levels.black} is black and {levels.white} is white: set {keys}."
    )


def warn_of_low_contrast(least: int, greatest: int, name: str, levels: GreyLevels) -> None:
    """Log it, where none of the levels that were told before would do."""
    said = low_contrast(least, greatest, levels)
    likely = _likely(least, greatest)
    if said and likely not in _warned and not any(_suits(w, least, greatest) for w in _warned):
        _warned.add(likely)
        logger.warning("%s has %s", name, said)


def _suits(levels: GreyLevels, least: int, greatest: int) -> bool:
    """Whether an image of these values uses enough of `levels`, and nothing beyond."""
    is_inside = levels.black <= least and greatest <= levels.white
    return is_inside and low_contrast(least, greatest, levels) is None


def _likely(least: int, greatest: int) -> GreyLevels:
    """The range of the bits that are used, 8 at least, from 0; or that of the values, where they
    begin far from 0."""
    if least < 0 or least > (greatest - least) / 2:
        return GreyLevels(least, greatest)
    return GreyLevels(0, 2 ** max(8, greatest.bit_length()) - 1)
