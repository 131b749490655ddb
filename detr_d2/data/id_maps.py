"""Maps of segment ids that are not COCO's RGB, as other tools write them."""

import os

import numpy as np

from ..errors import UserError
from .depth import has_16_bits
from .images import open_image, read_deep, read_upright
from .panoptic_map import OtherForm, read_panoptic_png

RGB = "rgb"  # R + 256 G + 65536 B, COCO's
VALUE = "value"  # the value of the only channel, or the index in a palette, or RGB of 16 bits
SCALED = "scaled"  # as value, but 257 or 256 times it: what has 8 bits, stretched to 16
BGR = "bgr"  # B + 256 G + 65536 R, as OpenCV writes what was meant as RGB
FORMS = (RGB, VALUE, SCALED, BGR)

_STRETCHED = (257, 256)  # 65535 / 255, and a shift by 8 bits
_WORDS = {
    SCALED: "its ids are 257 or 256 times what they should be, in 16 bits",
    BGR: "red and blue are exchanged",
}


def read_id_map(path: str | os.PathLike, where: str = "", form: str = RGB) -> np.ndarray:
    """(H, W) integer segment ids in a PNG; 0 = VOID. Nothing is scaled that is not `SCALED`.

    Args:
        form: one of `FORMS`.
        where: stands behind the path in errors.
    """
    if form == RGB:
        return read_panoptic_png(path, where)
    ids = _read_as(path, where, form)
    if ids is None:
        raise UserError(f"{path} {where} is no map of --ids {form}: leave that out.")
    return ids


def meant_form(path: str | os.PathLike, listed: list[int], form: str = RGB) -> str | None:
    """What a map of ids is, in words, that has others than those listed when it is read as `form`.

    Returns:
        A sentence with the remedy, where all ids but VOID are listed when it is read otherwise.
        None of other maps, and of a file that cannot be read.
    """
    try:
        return _meant_form(path, listed, form)
    except UserError:
        return None


def _meant_form(path: str | os.PathLike, listed: list[int], form: str) -> str | None:
    if _fits(_read_as(path, "", form), listed):
        return None
    for other in (VALUE, SCALED, BGR):
        if other != form and _fits(_read_as(path, "", other), listed):
            return _sentence(path, other)
    return None


def read_listed(path: str | os.PathLike, listed: list[int], where: str = "") -> np.ndarray:
    """As `read_panoptic_png`; an error says what the map is, where the listed ids tell it."""
    try:
        return read_panoptic_png(path, where)
    except OtherForm as error:
        raise OtherForm(meant_form(path, listed) or str(error)) from error


def _sentence(path: str | os.PathLike, form: str) -> str:
    if form == VALUE:
        with open_image(path) as image:
            values = "palette indices" if image.mode == "P" else "grey values"
            is_deep = image.mode == "RGB" and has_16_bits(image)
            what = "its ids have 16 bits" if is_deep else f"its ids are {values}"
    else:
        what = _WORDS[form]
    return (
        f"{path}: {what}, and COCO's format wants R + 256 G + 65536 B: convert the dataset with "
        f"tools/prepare_dataset.py panoptic --ids {form}."
    )


def _fits(ids: np.ndarray | None, listed: list[int]) -> bool:
    if ids is None:
        return False
    found = np.unique(ids)
    found = found[found != 0]
    return len(found) > 0 and bool(np.isin(found, listed).all())


def _read_as(path: str | os.PathLike, where: str, form: str) -> np.ndarray | None:
    """(H, W) integer ids; None where a map is not of that form.

    Three equal channels are one, and so is one beside its transparency. Of RGB with 16 bits, which
    OpenCV writes of larger integers, the numbers are those that RGB of 8 bits would have.
    """
    image, is_deep = read_upright(path, where, is_map=True)
    if form == RGB or (form == BGR and not is_deep):
        if is_deep or image.mode.startswith(("I", "F")):
            return None
        ids = read_panoptic_png(path, where)
        return ids if form == RGB else (ids & 255) << 16 | ids & 0xFF00 | ids >> 16
    if is_deep:
        channels = read_deep(image, path, where).astype(np.int64)
    elif form == VALUE and image.mode in ("1", "L", "P", "I", "LA", "RGB", "RGBA"):
        channels = np.asarray(image).astype(np.int64)
        if image.mode == "LA":
            channels = channels[..., 0]
    else:
        return None
    if form == SCALED:
        factors = [factor for factor in _STRETCHED if not (channels % factor).any()]
        if not factors:
            return None
        channels = channels // factors[0]
    if channels.ndim == 2:
        return None if form == BGR else channels
    channels = channels[..., :3]
    if form != BGR and (channels == channels[..., :1]).all():
        return channels[..., 0]
    if not is_deep or channels.max(initial=0) > 255:
        return None
    return channels @ ((65536, 256, 1) if form == BGR else (1, 256, 65536))
