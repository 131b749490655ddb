"""Maps of segment ids that are not COCO's RGB, as other tools write them."""

import os

import numpy as np

from ..errors import UserError
from .images import open_image, read_deep, read_upright
from .panoptic_map import read_panoptic_png

RGB = "rgb"  # R + 256 G + 65536 B, COCO's
VALUE = "value"  # the value of the only channel, or the index in a palette, or RGB of 16 bits
BGR = "bgr"  # B + 256 G + 65536 R, as OpenCV writes what was meant as RGB
FORMS = (RGB, VALUE, BGR)


def read_id_map(path: str | os.PathLike, where: str = "", form: str = RGB) -> np.ndarray:
    """(H, W) integer segment ids in a PNG; 0 = VOID. Nothing is scaled.

    Args:
        form: one of `FORMS`.
        where: stands behind the path in errors.
    """
    if form == RGB:
        return read_panoptic_png(path, where)
    if form == BGR:
        ids = read_panoptic_png(path, where)
        return (ids & 255) << 16 | ids & 0xFF00 | ids >> 16
    values = _values_of(path, where)
    if values is None:
        raise UserError(f"{path} {where} has several channels, and no values: leave --ids out.")
    return values


def meant_form(path: str | os.PathLike, listed: list[int]) -> str | None:
    """What a map of ids is, in words, that read as RGB has others than those listed.

    Returns:
        A sentence with the remedy, where all ids but VOID are listed when it is read otherwise.
    """
    values = _values_of(path)
    if values is not None and _fits(values, listed):
        with open_image(path) as image:
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


def _values_of(path: str | os.PathLike, where: str = "") -> np.ndarray | None:
    """(H, W) integer, the values of the only channel; None where there are several.

    Three equal channels are one, and so is one beside its transparency. Of RGB with 16 bits, which
    OpenCV writes of larger integers, it is what RGB of 8 bits would have.
    """
    image, is_deep = read_upright(path, where)
    if is_deep:
        values = read_deep(image, path, where).astype(np.int64)
        return values if values.ndim == 2 else _one_of(values, values @ (1, 256, 65536))
    if image.mode in ("1", "L", "P", "I"):
        return np.asarray(image).astype(np.int32)
    if image.mode not in ("LA", "RGB", "RGBA"):
        return None
    channels = np.asarray(image).astype(np.int32)
    return channels[..., 0] if image.mode == "LA" else _one_of(channels[..., :3], None)


def _one_of(channels: np.ndarray, otherwise: np.ndarray | None) -> np.ndarray | None:
    """(H, W), one of equal channels (H, W, 3); `otherwise` where they are not equal."""
    return channels[..., 0] if (channels == channels[..., :1]).all() else otherwise
