"""Maps of segment ids that are not COCO's RGB, as other tools write them."""

import os

import numpy as np
from PIL import Image

from ..errors import UserError
from .images import read_upright
from .panoptic_map import read_panoptic_png

RGB = "rgb"  # R + 256 G + 65536 B, COCO's
VALUE = "value"  # the value of the only channel, or the index in a palette
BGR = "bgr"  # B + 256 G + 65536 R, as OpenCV writes what was meant as RGB
FORMS = (RGB, VALUE, BGR)


def read_id_map(path: str | os.PathLike, where: str = "", form: str = RGB) -> np.ndarray:
    """(H, W) int32 of segment ids in a PNG; 0 = VOID. Nothing is scaled.

    Args:
        form: one of `FORMS`.
        where: stands behind the path in errors.
    """
    if form == RGB:
        return read_panoptic_png(path, where)
    if form == BGR:
        ids = read_panoptic_png(path, where)
        return (ids & 255) << 16 | ids & 0xFF00 | ids >> 16
    values = _values_of(read_upright(path, where))
    if values is None:
        raise UserError(f"{path} {where} has several channels, and no values: leave --ids out.")
    return values


def meant_form(path: str | os.PathLike, listed: list[int]) -> str | None:
    """What a map of ids is, in words, that read as RGB has others than those listed.

    Returns:
        A sentence with the remedy, where all ids but VOID are listed when it is read otherwise.
    """
    image = read_upright(path)
    values = _values_of(image)
    if values is not None and _fits(values, listed):
        what = "palette indices" if image.mode == "P" else "grey values"
        return _sentence(path, f"its ids are {what}", VALUE)
    if _fits(read_id_map(path, form=BGR), listed):
        return _sentence(path, "red and blue are exchanged", BGR)
    return None


def _sentence(path: str | os.PathLike, what: str, form: str) -> str:
    return (
        f"{path}: {what}, and COCO's format wants R + 256 G + 65536 B: convert the dataset with "
        f"tools/prepare_dataset.py panoptic --ids {form}."
    )


def _fits(ids: np.ndarray, listed: list[int]) -> bool:
    found = np.unique(ids)
    found = found[found != 0]
    return len(found) > 0 and bool(np.isin(found, listed).all())


def _values_of(image: Image.Image) -> np.ndarray | None:
    """(H, W) int32, the values of the only channel; None where there are several."""
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        return None
    return np.asarray(image).astype(np.int32)
