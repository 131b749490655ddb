"""The figures of what an official model does not have: pyramid, proposals, regions, windows."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from ..drawing import borders, place_inside, write_label
from ..modeling.pyramid import NAMES
from ..modeling.windows import sample
from .explained import Explained
from .figure import Figure, Outline
from .pictures import (
    colored_segments,
    magnitude,
    principal_components,
    relative,
    resized,
    resized_numbers,
    signed,
    size_of_width,
)
from .proposals import dense_scores, proposals

_WIDTH = 440  # pixels, of a panel
_LOGITS_WIDTH = 160
_LABEL_SIZE = 20
_LEAST_LABELLED = 0.01  # of the picture: what is smaller has no name on it


def part_figures(explained: Explained, shown: list[int]) -> Iterator[Figure]:
    """Those of the image.

    Args:
        shown: the queries whose boxes are followed through the decoder.
    """
    if explained.has_pyramid:
        yield from _pyramid(explained)
        yield _references(explained, shown)
    if explained.has_proposals:
        yield _proposals(explained)
    if explained.has_windows:
        yield _semantic(explained)
        yield _windows(explained)


def part_query_figures(explained: Explained, query: int, row: int) -> list[Figure]:
    """Those of a query that passes.

    Args:
        row: of the query among the K.
    """
    if not explained.has_windows:
        return []
    figures = [_start(explained, query, row)]
    windows = explained.image["window_queries"].tolist()
    if query in windows:
        figures.append(_window(explained, query, row, windows.index(query)))
    return figures


def _pyramid(explained: Explained) -> Iterator[Figure]:
    size = size_of_width(explained.image["image"].shape[-2:], _WIDTH)
    names = [name for name in NAMES if f"pyramid.{name}" in explained.image]
    levels = [explained.image[f"pyramid.{name}"] for name in names]
    shapes = [" x ".join(map(str, level.shape)) for level in levels]
    labels = [f"with Res{name[3:]}, {shape}" for name, shape in zip(names, shapes)]
    for kind, draw in (("components", principal_components), ("magnitude", magnitude)):
        panels = [resized(draw(level), size, nearest=True) for level in levels]
        yield Figure(f"pyramid_{kind}", labels, panels)


def _proposals(explained: Explained) -> Figure:
    """The scores of the cells of each level, and over them what was chosen from it."""
    kept, found = set(explained.kept), proposals(explained)
    panels, labels, outlines = [], [], []
    for name, scores in dense_scores(explained).items():
        of_level = [p for p in found if p.level == name]
        panels.append(relative(scores, 1.0))
        labels.append(f"with Res{name[3:]}: {len(of_level)} chosen, best {scores.max():.0%}")
        outlines.append([Outline(p.query, p.box, p.query in kept, p.cell) for p in of_level])
    size = panels[-1].shape
    panels = [resized(panel, size, nearest=True) for panel in panels]
    return Figure("proposals", labels, panels, over_photograph=True, outlines=outlines)


def _references(explained: Explained, shown: list[int]) -> Figure:
    """The box in which each decoder layer looked, and the one that came out."""
    image, first = explained.image, explained.num_stuff
    kept, shown = set(explained.kept), [query for query in shown if query >= first]
    layers = [image[name] for name in image if name.endswith(".references")]
    steps = [boxes[[query - first for query in shown]] for boxes in layers]
    steps.append(image["boxes"][shown])
    outlines = [
        [Outline(query, box, query in kept) for query, box in zip(shown, boxes.tolist())]
        for boxes in steps
    ]
    labels = [f"layer {n} looked here" for n in range(1, len(layers) + 1)] + ["the boxes found"]
    return Figure("references", labels, [_dimmed(explained)] * len(steps), outlines=outlines)


def _semantic(explained: Explained) -> Figure:
    probability, classes = explained.image["semantic"].softmax(0).max(0)
    under = _picture(explained)
    numbers = resized_numbers(classes.cpu().numpy(), under.shape[:2])
    laid = colored_segments(numbers, under)
    laid[borders(numbers)] = 255
    picture = Image.fromarray(laid)
    pen = ImageDraw.Draw(picture)
    for number in np.unique(numbers).tolist():
        largest = _largest_part(numbers == number)
        if largest.mean() >= _LEAST_LABELLED:
            name = explained.class_names[number]
            write_label(pen, place_inside(largest), name, "mm", _LABEL_SIZE)
    sure = resized(relative(probability, 1.0), under.shape[:2], nearest=True)
    sure = (sure[..., None].repeat(3, 2) * 255).astype(np.uint8)
    labels = ["the most probable class of each cell", "its probability: black 0, white 1"]
    return Figure("semantic", labels, [np.asarray(picture), sure])


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask that has a pixel."""
    parts, _ = ndimage.label(mask)
    return parts == np.bincount(parts[mask]).argmax()


def _start(explained: Explained, query: int, row: int) -> Figure:
    image = explained.image
    start, mask = image["start_logits"][row], image["coarse_logits"][row]
    size = size_of_width(mask.shape, _LOGITS_WIDTH)
    if row not in image.convolved_rows().tolist():
        label = "its class in the semantic map: the mask"
        return Figure(f"query-{query:03d}-start", [label], [resized(signed(start), size)])
    panels = [resized(signed(x), size) for x in (start, mask - start, mask)]
    labels = ["its class in the semantic map", "+ what the convolutions say", "= the mask"]
    return Figure(f"query-{query:03d}-start", labels, panels)


def _windows(explained: Explained) -> Figure:
    """The windows of things, and their masks before and after."""
    image, kept = explained.image, set(explained.kept)
    pairs = zip(image["window_queries"].tolist(), _relative_windows(explained).tolist())
    outlines = [Outline(query, box) for query, box in pairs if query in kept]
    things = [outline.query for outline in outlines]
    full = image["full_mask_logits"][[explained.kept.index(query) for query in things]]
    rows = (image["mask_queries"][:, None] == image["mask_queries"].new_tensor(things)).nonzero()
    coarse = image["coarse_logits"][rows[:, 0]][None]
    coarse = F.interpolate(coarse, full.shape[-2:], mode="bilinear")[0] if things else full
    panels = [_masks(explained, logits, things) for logits in (coarse, full)]
    labels = ["masks before the windows", "masks with their windows"]
    return Figure("windows", labels, panels, outlines=[outlines] * 2)


def _masks(explained: Explained, logits: Tensor, queries: list[int]) -> np.ndarray:
    """(Q, H, W) masks of Q queries over the photograph, each in its colour, the surest on top."""
    under = _picture(explained)
    if not queries:
        return _dimmed(explained)
    best, places = logits.max(0)
    claimed = torch.where(best > 0, places, -1).cpu().numpy()
    numbers = resized_numbers(np.array([*queries, -1])[claimed], under.shape[:2])
    laid = colored_segments(numbers, under)
    return np.where(numbers[..., None] < 0, _dimmed(explained), laid)


def _window(explained: Explained, query: int, row: int, place: int) -> Figure:
    """The mask in the window of a thing, before and after what is found there is added."""
    image = explained.image
    window, correction = image["windows"][place], image["window_logits"][place]
    mask = image["coarse_logits"][row][None]
    (before,) = sample(mask, window[None], len(correction), image["image"].shape[-2:])
    x0, y0, x1, y1 = window.tolist()
    longer = max(x1 - x0, y1 - y0)
    size = tuple(max(24, round(_LOGITS_WIDTH * side / longer)) for side in (y1 - y0, x1 - x0))
    panels = [_cropped(explained, window, size)]
    panels += [resized(signed(x), size) for x in (before, correction, before + correction)]
    labels = ["the window", "the mask before", "+ the correction", "= the mask in the window"]
    panels = [_framed(panel, explained.photograph) for panel in panels]
    return Figure(f"query-{query:03d}-window", labels, panels)


def _framed(panel: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """In grey, to the photograph's proportions, which figures are drawn in."""
    (h, w), (height, width) = panel.shape[:2], photograph.shape[:2]
    frame_h, frame_w = max(h, round(w * height / width)), max(w, round(h * width / height))
    frame = np.full((frame_h, frame_w, 3), 128, np.uint8)
    top, left = (frame_h - h) // 2, (frame_w - w) // 2
    frame[top : top + h, left : left + w] = panel
    return frame


def _cropped(explained: Explained, window: Tensor, size: tuple[int, int]) -> np.ndarray:
    """The photograph in a window of the network's pixels; beyond its border it is black."""
    (height, width), (h, w) = explained.photograph.shape[:2], explained.image["image"].shape[-2:]
    box = window * window.new_tensor([width / w, height / h] * 2)
    picture = Image.fromarray(explained.photograph)
    how = Image.Transform.EXTENT, tuple(box.tolist()), Image.Resampling.BILINEAR
    return np.asarray(picture.transform(size[::-1], *how))


def _relative_windows(explained: Explained) -> Tensor:
    """(Q, 4) as (cx, cy, w, h), relative to the image."""
    height, width = explained.image["image"].shape[-2:]
    windows = explained.image["windows"]
    low, high = (windows / windows.new_tensor([width, height] * 2)).split(2, 1)
    return torch.cat(((low + high) / 2, high - low), 1)


def _picture(explained: Explained) -> np.ndarray:
    return resized(explained.photograph, size_of_width(explained.photograph.shape[:2], _WIDTH))


def _dimmed(explained: Explained) -> np.ndarray:
    """The photograph, so that lines stand out."""
    return (_picture(explained) * 0.55).astype(np.uint8)
