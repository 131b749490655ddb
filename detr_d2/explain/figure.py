"""A figure is a row of panels of one size: a strip of them in the page, and a sheet as a PNG."""

import base64
import io
import textwrap
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pictures import color_of, colored_heat, resized, size_of_width

_LEVELS = 32  # of a heat map
_CELLS = 64 * 64  # more make a picture, fewer are drawn as squares
_PANEL_WIDTH = 240  # pixels, of a sheet
_COLUMNS = 4
_LINE_HEIGHT = 15  # pixels, of a title
_LINE_LENGTH = 38  # letters, of a title


@dataclass(frozen=True)
class Outline:
    """A box over a panel, in the colour of its query.

    Attributes:
        query: its number.
        box: (cx, cy, w, h), relative to the panel.
        kept: whether the query passes: the line of others is thin.
        point: (x, y) of a point that belongs to it, likewise.
    """

    query: int
    box: list[float]
    kept: bool = True
    point: tuple[float, float] | None = None


@dataclass(frozen=True)
class Figure:
    """
    Attributes:
        name: of its file, without suffix.
        labels: one a panel.
        panels: all of one size: (h, w, 3) uint8 pictures, or (h, w) heat from 0 to 1.
        over_photograph: heat is laid over the photograph.
        outlines: of each panel; none by default.
    """

    name: str
    labels: list[str]
    panels: list[np.ndarray]
    over_photograph: bool = False
    outlines: list[list[Outline]] = field(default_factory=list)

    def for_page(self) -> dict:
        """`src` (a data URI with all panels side by side), `n`, `w`, `h`, `labels`, `over` (whether
        it is laid over the photograph), `cells` (whether its pixels are squares to be seen), and
        `outlines`, if there are any: of each panel lists of query, box and point."""
        panels = self.panels
        height, width = panels[0].shape[:2]
        strip = np.concatenate(panels, axis=1)
        cells = height * width <= _CELLS
        if strip.ndim == 2 and (cells or self.over_photograph):
            kind, data = "png", _encoded_heat(strip, self.over_photograph)
        elif cells:
            kind, data = "png", _encoded(Image.fromarray(strip), "PNG", optimize=True)
        else:
            picture = Image.fromarray(_colored(strip))
            kind, data = "webp", _encoded(picture, "WEBP", quality=72, method=4)
        outlines = [[_plain(outline) for outline in panel] for panel in self.outlines]
        return {
            **({"outlines": outlines} if outlines else {}),
            "src": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
            "n": len(panels),
            "w": width,
            "h": height,
            "labels": self.labels,
            "over": self.over_photograph,
            "cells": bool(cells),
        }

    def sheet(self, photograph: np.ndarray) -> Image.Image:
        """Titled panels, four in a row; `photograph` is (H, W, 3) uint8."""
        size = size_of_width(photograph.shape[:2], _PANEL_WIDTH)
        gray = resized(photograph, size).mean(2, keepdims=True)
        panels = []
        for panel in self.panels:
            panel = resized(panel, size, nearest=True)
            colors = _colored(panel)
            if self.over_photograph:
                alpha = _alpha(panel)[..., None]
                colors = (alpha * colors + (1 - alpha) * gray).astype(np.uint8)
            panels.append(colors)
        for number, outlines in enumerate(self.outlines):
            panels[number] = _outlined(panels[number], outlines)
        return _tiled(panels, self.labels)


def _plain(outline: Outline) -> list:
    box, point = ([round(x, 4) for x in place] for place in (outline.box, outline.point or ()))
    return [outline.query, box, point]


def _outlined(panel: np.ndarray, outlines: list[Outline]) -> np.ndarray:
    """The outlines of queries that pass on top."""
    picture = Image.fromarray(panel)
    pen, (width, height) = ImageDraw.Draw(picture), picture.size
    for outline in sorted(outlines, key=lambda outline: outline.kept):
        cx, cy, w, h = outline.box
        corners = [(cx - w / 2) * width, (cy - h / 2) * height]
        corners += [(cx + w / 2) * width, (cy + h / 2) * height]
        color = color_of(outline.query)
        pen.rectangle(corners, outline=color, width=2 if outline.kept else 1)
        if outline.point:
            x, y = outline.point[0] * width, outline.point[1] * height
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color, outline="white")
    return np.asarray(picture)


def _tiled(panels: list[np.ndarray], labels: list[str]) -> Image.Image:
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    titles = [textwrap.wrap(label, _LINE_LENGTH) for label in labels]
    title_height = max(map(len, titles)) * _LINE_HEIGHT + 3
    height = panels[0].shape[0] + title_height
    sheet = Image.new("RGB", (columns * (_PANEL_WIDTH + 4), rows * (height + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (panel, title) in enumerate(zip(panels, titles)):
        x, y = number % columns * (_PANEL_WIDTH + 4), number // columns * (height + 4)
        pen.text((x + 2, y + 1), "\n".join(title), fill="black", font=font, spacing=2)
        sheet.paste(Image.fromarray(panel), (x, y + title_height))
    return sheet.quantize(256, Image.Quantize.FASTOCTREE)


def _colored(panel: np.ndarray) -> np.ndarray:
    return panel if panel.ndim == 3 else colored_heat(panel)


def _alpha(heat: np.ndarray) -> np.ndarray:
    """How much of the photograph is covered: little where there is little heat."""
    return 0.35 + 0.6 * heat


def _encoded_heat(strip: np.ndarray, transparent: bool) -> bytes:
    """A palette PNG: a few bits a cell, exact."""
    levels = np.linspace(0, 1, _LEVELS)
    picture = Image.fromarray((strip * (_LEVELS - 1)).round().astype(np.uint8), mode="P")
    picture.putpalette(_colored(levels[None])[0].tobytes())
    alpha = (_alpha(levels) * 255).astype(np.uint8).tobytes() if transparent else None
    options = {"transparency": alpha} if transparent else {}
    return _encoded(picture, "PNG", optimize=True, **options)


def _encoded(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()
