"""The tables of the page, as rows of texts, which tables.html writes."""

import math
import re
from collections.abc import Set
from dataclasses import dataclass

from .ground_truth import Pair, Verdict
from .image_trace import ImageTrace
from .merging import MergingStep
from .pictures import css_color
from .proposals import Proposal


@dataclass(frozen=True)
class Colored:
    """A text with a square of a CSS colour before it."""

    text: object
    color: str


@dataclass(frozen=True)
class Marked:
    """A text of a class of the stylesheet, or code."""

    text: str
    kind: str


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        cells: `Colored`, `Marked`, or what has a text.
        query: that a click on the row chooses.
    """

    cells: list
    query: int | None = None


@dataclass(frozen=True)
class Table:
    """
    Attributes:
        numbers: the columns that are set to the right.
    """

    headers: list[str]
    rows: list[Row]
    numbers: Set[int] = frozenset()


def tensor_table(described: list[dict], pattern: str) -> Table:
    """The tensors whose names match: name, shape in letters and numbers, range."""
    rows = []
    for tensor in described:
        if re.fullmatch(pattern, tensor["name"]):
            ends = tensor["range"]
            cells = [
                Marked(tensor["name"], "code"),
                tensor["letters"],
                " x ".join(map(str, tensor["shape"])),
                tensor["dtype"],
                "none" if ends is None else " to ".join(_short(end) for end in ends),
                tensor["meaning"],
            ]
            rows.append(Row(cells))
    return Table(["name", "shape", "here", "type", "range", "what it is"], rows)


def _short(number: float | bool) -> str:
    return f"{number:.3g}" if isinstance(number, float) else str(number)


def query_list(image: ImageTrace, labels: list[str]) -> dict[str, list[dict]]:
    """`passing` and `others`, the best first: `number`, `label`, `score` and `color` of each."""
    scores, kept = image["scores"].tolist(), image["kept"].tolist()
    queries: dict[str, list[dict]] = {"passing": [], "others": []}
    for q in sorted(range(len(scores)), key=lambda query: -scores[query]):
        query = {"number": q, "label": labels[q], "score": f"{scores[q]:.0%}"}
        queries["passing" if kept[q] else "others"].append({**query, "color": css_color(q)})
    return queries


def query_table(image: ImageTrace, labels: list[str]) -> Table:
    """All N queries: class, score, box, whether it passes."""
    rows = []
    columns = (image[name].tolist() for name in ("scores", "kept", "boxes"))
    for query, (score, kept, box) in enumerate(zip(*columns)):
        cells = [
            Colored(query, css_color(query)),
            labels[query],
            f"{score:.3f}",
            "yes" if kept else "no",
            ", ".join(f"{x:.3f}" for x in box),
        ]
        rows.append(Row(cells, query))
    return Table(["query", "class", "score", "passes", "cx, cy, w, h"], rows)


def proposal_table(found: list[Proposal], size: tuple[int, ...]) -> Table:
    """Which cell each query of a thing is; `size` is (H, W) of the network's image."""
    rows = []
    for p in found:
        x, y = p.cell
        cells = [
            Colored(p.query, css_color(p.query)),
            f"Res{p.level[3:]}",
            f"{x * size[1]:.0f}, {y * size[0]:.0f}",
            p.label,
            f"{p.score:.3f}",
            ", ".join(f"{x:.3f}" for x in p.box),
        ]
        rows.append(Row(cells, p.query))
    return Table(["query", "level", "cell: x, y", "class", "score", "cx, cy, w, h"], rows)


def merging_table(steps: list[MergingStep], queries: list[int]) -> Table:
    """The steps; a query that was dropped for the share of its mask has that behind it."""
    rows = []
    for step in steps:
        removed = [
            str(queries[place]) + (f" ({share_text(step.shares[place])})" if step.shares else "")
            for place in step.removed
        ]
        cells = [step.title, step.num_segments, step.pixels_changed, ", ".join(removed) or "none"]
        rows.append(Row(cells))
    return Table(["step", "segments", "pixels changed", "queries removed"], rows, {1, 2})


def share_text(share: float) -> str:
    """What a query wins of its own mask."""
    return "no pixel of its own" if math.isnan(share) else f"wins {share:.0%}"


def segment_table(
    segments_info: list[dict],
    queries_of_id: dict[int, list[int]],
    number_of_id: dict[int, int],
    names: list[str],
) -> Table:
    """The segments of the result, in the colours of its picture."""
    rows = []
    for info in segments_info:
        cells = [
            Colored(info["id"], css_color(number_of_id[info["id"]])),
            names[info["category_id"]],
            "thing" if info["isthing"] else "stuff",
            f"{info['score']:.0%}",
            info["area"],
            ", ".join(map(str, queries_of_id[info["id"]])),
        ]
        rows.append(Row(cells))
    return Table(["id", "class", "kind", "score", "pixels", "queries"], rows, {3, 4})


def pair_table(pairs: list[Pair], truth_labels: list[str], labels: list[str]) -> Table:
    """The matched pairs, with their costs.

    Args:
        truth_labels: of each true segment.
        labels: of each of the N queries.
    """
    rows = []
    for pair in pairs:
        costs = (pair.cost_class, pair.cost_l1, pair.cost_giou, pair.cost)
        cells = [
            f"{pair.segment + 1} {truth_labels[pair.segment]}",
            Colored(pair.query, css_color(pair.query)),
            labels[pair.query],
            *(f"{cost:.2f}" for cost in costs),
        ]
        rows.append(Row(cells, pair.query))
    headers = ["segment", "query", "says", "class", "L1", "GIoU", "cost"]
    return Table(headers, rows, {3, 4, 5, 6})


def verdict_table(
    verdicts: list[Verdict], truth_labels: list[str], segments_info: list[dict], names: list[str]
) -> Table:
    """True and predicted segments: what became of each.

    Args:
        truth_labels: of each true segment.
        names: of the classes.
    """
    rows = []
    for v in verdicts:
        info = None if v.predicted_id is None else segments_info[v.predicted_id - 1]
        if info is not None:
            label = names[info["category_id"]]
        else:
            label = "" if v.segment is None else truth_labels[v.segment]
        cells = [
            Marked(v.verdict, "hit-text" if v.verdict == "hit" else "wrong-text"),
            label,
            f"{v.iou:.2f}",
            "" if v.segment is None else v.segment + 1,
            "" if info is None else info["id"],
        ]
        rows.append(Row(cells))
    headers = ["verdict", "class", "IoU", "segment of the ground truth", "id in the result"]
    return Table(headers, rows, {2})
