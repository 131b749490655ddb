"""What the page's JavaScript works with."""

import json

import numpy as np

from .explained import Explained
from .figure import Figure
from .pictures import css_color, resized_numbers, size_of_width

_MAP_WIDTH = 480  # pixels, at most, of the map that is pointed at


def page_data(explained: Explained, figures: list[Figure]) -> str:
    """JSON: the queries, the map of winning queries, and the figures by name."""
    data = {
        "queries": _queries(explained),
        "kept": explained.kept,
        "first": _first(explained),
        "figures": {figure.name: figure.for_page() for figure in figures},
    }
    if explained.steps:
        data["map"] = _map(explained.winners)
        data["partners"] = {
            query: together
            for together in explained.queries_of_id.values()
            for query in together
            if len(together) > 1
        }
    # It stands in a script element, which no text must end.
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _queries(explained: Explained) -> list[dict]:
    columns = (explained.image[name].tolist() for name in ("scores", "kept", "boxes"))
    return [
        {
            "number": number,
            "label": explained.labels[number],
            "percent": f"{score:.0%}",
            "kept": kept,
            "box": [round(x, 5) for x in box],
            "color": css_color(number),
        }
        for number, (score, kept, box) in enumerate(zip(*columns))
    ]


def _first(explained: Explained) -> int:
    """The query that the page begins with: the best of those that pass, or else of all."""
    scores = explained.image["scores"]
    return max(explained.kept or range(len(scores)), key=scores.tolist().__getitem__)


def _map(winners: np.ndarray) -> dict:
    """The winning query of each pixel, row by row, in runs: query, length, query, length, ..."""
    width = min(_MAP_WIDTH, winners.shape[1])
    winners = resized_numbers(winners, size_of_width(winners.shape, width))
    flat = winners.ravel()
    starts = np.concatenate(([0], np.flatnonzero(np.diff(flat)) + 1))
    lengths = np.diff(starts, append=len(flat))
    runs = np.stack((flat[starts], lengths), axis=1).ravel().tolist()
    return {"w": winners.shape[1], "h": winners.shape[0], "runs": runs}
