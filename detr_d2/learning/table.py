"""A table of small pictures, with the colours of the classes below it."""

from dataclasses import dataclass

import numpy as np
from detectron2.data import Metadata
from PIL import Image, ImageDraw

from ..drawing import color_of

CELL = 216  # pixels, of a picture's longer side
_GAP = 6  # pixels
_LINE = 18  # pixels, of text
_FONT_SIZE = 14


@dataclass(frozen=True)
class Column:
    """
    Attributes:
        title: its lines.
        pictures: (H, W, 3) uint8, RGB, one a row.
    """

    title: list[str]
    pictures: list[np.ndarray]


def draw_table(columns: list[Column], metadata: Metadata) -> Image.Image:
    """Pictures are fitted into cells of `CELL` x `CELL`; rows are as high as their highest one.

    Args:
        metadata: whose classes the legend lists.
    """
    rows = list(zip(*([_fitted(p) for p in column.pictures] for column in columns)))
    heights = [max(picture.height for picture in row) + _GAP for row in rows]
    top = _LINE * max(len(column.title) for column in columns) + _GAP
    width = len(columns) * (CELL + _GAP) + _GAP
    legend = _legend(metadata, width)
    table = Image.new("RGB", (width, top + sum(heights) + legend.height), "white")
    pen = ImageDraw.Draw(table)
    for number, column in enumerate(columns):
        left = _GAP + number * (CELL + _GAP)
        for line, text in enumerate(column.title):
            pen.text((left, 3 + line * _LINE), text, "black", font_size=_FONT_SIZE)
        for row, picture in enumerate(cells[number] for cells in rows):
            table.paste(picture, (left, top + sum(heights[:row])))
    table.paste(legend, (0, table.height - legend.height))
    return table


def _fitted(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    factor = CELL / max(image.size)
    size = [max(1, round(side * factor)) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS)


def _legend(metadata: Metadata, width: int) -> Image.Image:
    """The names of all classes beside squares of their colours, in as many lines as it takes."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places: list[tuple[float, int]] = []
    left: float = _GAP
    line = 0
    for name in metadata.thing_classes:
        length = _LINE + pen.textlength(name, font_size=_FONT_SIZE) + 4 * _GAP
        if left + length > width and left > _GAP:
            left, line = _GAP, line + 1
        places.append((left, line * _LINE))
        left += length
    legend = Image.new("RGB", (width, (line + 1) * _LINE + _GAP), "white")
    pen = ImageDraw.Draw(legend)
    for label, (x, y) in enumerate(places):
        pen.rectangle((x, y + 3, x + 12, y + 15), color_of(label, metadata))
        text = metadata.thing_classes[label]
        pen.text((x + _LINE, y + 1), text, "black", font_size=_FONT_SIZE)
    return legend
