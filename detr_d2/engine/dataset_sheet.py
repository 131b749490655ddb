"""A few images of a dataset beside their segments on one sheet: is it what was meant?"""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import Metadata
from PIL import Image

from ..data.depth import ALL_GREY_LEVELS, GreyLevels
from ..data.images import read_image
from ..data.panoptic_map import read_segment_map
from ..data.registration import dicts_of, metadata_of
from ..drawing import draw_panoptic, side_by_side
from ..errors import UserError
from .sources import evenly

_CELL = 480, 360  # pixels, of an image on the sheet
_COLUMNS = 2  # pairs


def draw_dataset(
    content: dict,
    paths: tuple[str, str, str],
    limit: int = 12,
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> tuple[Image.Image | None, list[str]]:
    """Draw up to `limit` images, evenly through the dataset.

    Args:
        content: of a panoptic JSON that says the truth.
        paths: of images, PNGs and JSON.
        levels: of images of 16 bits, see `read_image`.

    Returns:
        The sheet, None where it is empty; and a sentence on each image that cannot be read.
    """
    metadata = metadata_of(content["categories"], paths[2])
    things, stuff = (metadata[f"{kind}_dataset_id_to_contiguous_id"] for kind in ("thing", "stuff"))
    dicts = dicts_of(content, paths, things, stuff)
    metadata = Metadata(name=paths[2], **metadata)
    pairs, unread = [], []
    for number in evenly(len(dicts), limit):
        try:
            pairs.append(_pair(dicts[number], metadata, levels))
        except UserError as error:
            unread.append(str(error))
    return _sheet(pairs) if pairs else None, unread


def _sheet(pairs: list[Image.Image]) -> Image.Image:
    width, height = max(p.width for p in pairs), max(p.height for p in pairs)
    rows = -(-len(pairs) // _COLUMNS)
    sheet = Image.new("RGB", (width * min(_COLUMNS, len(pairs)), height * rows), "white")
    for number, pair in enumerate(pairs):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(pair, (column * width, row * height))
    return sheet


def _pair(dataset_dict: dict, metadata: Metadata, levels: GreyLevels) -> Image.Image:
    where = f"(image {dataset_dict['image_id']})"
    image = read_image(dataset_dict["file_name"], where=where, levels=levels)
    segment_map = torch.from_numpy(read_segment_map(dataset_dict).astype(np.int32))
    infos = [{**s, "id": t} for t, s in enumerate(dataset_dict["segments_info"], 1)]
    drawn = draw_panoptic(image, segment_map, infos, metadata)
    name = Path(dataset_dict["file_name"]).name
    return side_by_side([(name, _fitted(image)), ("segments", _fitted(drawn))])


def _fitted(image: np.ndarray) -> np.ndarray:
    """Of the size of a cell at most, and nearly."""
    picture = Image.fromarray(image)
    scale = min(_CELL[0] / picture.width, _CELL[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return np.asarray(picture.resize(size))
