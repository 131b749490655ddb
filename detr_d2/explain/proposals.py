"""The cells of the pyramid that were chosen to be the queries of things."""

from dataclasses import dataclass

from torch import Tensor

from ..modeling.pyramid import NAMES
from .explained import Explained


@dataclass(frozen=True)
class Proposal:
    """
    Attributes:
        query: its number among the N.
        level: of the pyramid, "res4", "res3" or "res2".
        cell: (x, y) of the cell's centre, relative to the image.
        box: (cx, cy, w, h), relative to the image.
        label: the class that the dense head thinks best.
        score: of that class, 0 to 1.
    """

    query: int
    level: str
    cell: tuple[float, float]
    box: list[float]
    label: str
    score: float


def dense_scores(explained: Explained) -> dict[str, Tensor]:
    """Of each level of the pyramid (h, w), the score of the best class of each cell."""
    sizes = [explained.image[f"pyramid.{name}"].shape[-2:] for name in NAMES]
    scores = explained.image["cells.logits"].amax(1).sigmoid().split([h * w for h, w in sizes])
    return {name: s.view(size) for name, s, size in zip(NAMES, scores, sizes)}


def proposals(explained: Explained) -> list[Proposal]:
    """In the order of the queries."""
    image, transformer = explained.image, explained.model.transformer
    boxes = image["decoder.0.references"].tolist()
    return [
        Proposal(number, *_place(explained, cell), box, *_best(explained, cell, transformer))
        for number, (cell, box) in enumerate(
            zip(image["proposals"].tolist(), boxes), explained.num_stuff
        )
    ]


def _best(explained: Explained, cell: int, transformer) -> tuple[str, float]:
    score, thing = explained.image["cells.logits"][cell].sigmoid().max(0)
    return explained.class_names[transformer.thing_classes[thing].item()], score.item()


def _place(explained: Explained, cell: int) -> tuple[str, tuple[float, float]]:
    """The level of a cell, and its centre."""
    height, width = explained.image["image"].shape[-2:]
    for name, stride in zip(NAMES, explained.model.transformer.pyramid.strides):
        h, w = explained.image[f"pyramid.{name}"].shape[-2:]
        if cell < h * w:
            x, y = (cell % w + 0.5) * stride / width, (cell // w + 0.5) * stride / height
            return name, (x, y)
        cell -= h * w
    raise IndexError(cell)
