"""The tables of the page, as HTML; whatever comes from files is escaped."""

import math
import re
from collections.abc import Set
from html import escape

from .ground_truth import Pair, Verdict
from .image_trace import ImageTrace
from .merging import MergingStep
from .pictures import css_color
from .proposals import Proposal


def rows(cells_of_rows: list[list], numbers: Set[int] = frozenset()) -> str:
    """Table rows. Text is escaped; `Markup` is not; `numbers` are the columns set to the right."""
    html = []
    for cells in cells_of_rows:
        html.append("<tr>")
        for column, cell in enumerate(cells):
            text = cell if isinstance(cell, Markup) else escape(str(cell))
            html.append(f"<td{' class=number' if column in numbers else ''}>{text}</td>")
        html.append("</tr>")
    return "".join(html)


class Markup(str):
    """HTML that is our own."""


def tensor_table(described: list[dict], pattern: str) -> str:
    """The tensors whose names match, folded away: name, shape in letters and numbers, range."""
    cells = []
    for tensor in described:
        if re.fullmatch(pattern, tensor["name"]):
            ends = tensor["range"]
            cells.append(
                [
                    Markup(f"<code>{tensor['name']}</code>"),
                    tensor["letters"],
                    " x ".join(map(str, tensor["shape"])),
                    tensor["dtype"],
                    "none" if ends is None else " to ".join(_short(end) for end in ends),
                    tensor["meaning"],
                ]
            )
    head = "<tr><th>name<th>shape<th>here<th>type<th>range<th>what it is</tr>"
    return (
        "<details><summary>Tensors</summary><div class=scroll><table><thead>"
        f"{head}</thead><tbody>{rows(cells)}</tbody></table></div></details>"
    )


def _short(number: float | bool) -> str:
    return f"{number:.3g}" if isinstance(number, float) else str(number)


def swatch(number: int) -> Markup:
    """A square of the colour of a query or a class."""
    return Markup(f'<span class="swatch" style="background:{css_color(number)}"></span> ')


def class_key(classes: list[int], names: list[str]) -> str:
    """The colours of classes."""
    return ", ".join(f"{swatch(number)}{escape(names[number])}" for number in classes)


def query_list(image: ImageTrace, labels: list[str]) -> str:
    """Radio buttons, which the arrow keys walk through: those that pass, and folded the others."""
    scores, kept = image["scores"].tolist(), image["kept"].tolist()
    order = sorted(range(len(scores)), key=lambda query: -scores[query])

    def buttons(passes: bool) -> str:
        return "".join(
            f'<label class="query"><input type="radio" name="query" value="{q}">{swatch(q)}'
            f'<span>{q} {escape(labels[q])}</span><span class="score">{scores[q]:.0%}</span>'
            "</label>"
            for q in order
            if kept[q] == passes
        )

    num_kept = sum(kept)
    fieldsets = ""
    if num_kept:
        fieldsets = f"<fieldset><legend>{num_kept} pass</legend>{buttons(True)}</fieldset>"
    if num_kept < len(kept):
        others = f"{len(kept) - num_kept} do not pass"
        fieldsets += (
            f"<details><summary>{others}</summary><fieldset>{buttons(False)}</fieldset></details>"
        )
    return fieldsets


def query_table(image: ImageTrace, labels: list[str]) -> str:
    """All N queries: class, score, box, whether it passes."""
    html = "<table><thead><tr><th>query<th>class<th>score<th>passes<th>cx, cy, w, h</thead><tbody>"
    columns = (image[name].tolist() for name in ("scores", "kept", "boxes"))
    for query, (score, kept, box) in enumerate(zip(*columns)):
        cells = [
            Markup(swatch(query) + str(query)),
            labels[query],
            f"{score:.3f}",
            "yes" if kept else "no",
            ", ".join(f"{x:.3f}" for x in box),
        ]
        html += rows([cells]).replace("<tr>", f'<tr data-query="{query}">')
    return html + "</tbody></table>"


def proposal_rows(found: list[Proposal], size: tuple[int, ...]) -> str:
    """Which cell each query of a thing is; `size` is (H, W) of the network's image."""
    html = ""
    for p in found:
        x, y = p.cell
        cells = [
            Markup(swatch(p.query) + str(p.query)),
            f"Res{p.level[3:]}",
            f"{x * size[1]:.0f}, {y * size[0]:.0f}",
            p.label,
            f"{p.score:.3f}",
            ", ".join(f"{x:.3f}" for x in p.box),
        ]
        html += rows([cells]).replace("<tr>", f'<tr data-query="{p.query}">')
    return html


def merging_rows(steps: list[MergingStep], queries: list[int]) -> str:
    """The steps; a query that was dropped for the share of its mask has that behind it."""
    cells = []
    for step in steps:
        removed = [
            str(queries[place]) + (f" ({share_text(step.shares[place])})" if step.shares else "")
            for place in step.removed
        ]
        cells.append(
            [step.title, step.num_segments, step.pixels_changed, ", ".join(removed) or "none"]
        )
    return rows(cells, {1, 2})


def share_text(share: float) -> str:
    """What a query wins of its own mask."""
    return "no pixel of its own" if math.isnan(share) else f"wins {share:.0%}"


def segment_rows(
    segments_info: list[dict],
    queries_of_id: dict[int, list[int]],
    number_of_id: dict[int, int],
    names: list[str],
) -> str:
    """The segments of the result, in the colours of its picture."""
    cells = []
    for info in segments_info:
        queries = queries_of_id[info["id"]]
        cells.append(
            [
                Markup(swatch(number_of_id[info["id"]]) + str(info["id"])),
                names[info["category_id"]],
                "thing" if info["isthing"] else "stuff",
                f"{info['score']:.0%}",
                info["area"],
                ", ".join(map(str, queries)),
            ]
        )
    return rows(cells, {3, 4})


def pair_rows(pairs: list[Pair], truth_labels: list[str], labels: list[str]) -> str:
    """Rows of the matched pairs, with their costs.

    Args:
        truth_labels: of each true segment.
        labels: of each of the N queries.
    """
    html = ""
    for pair in pairs:
        costs = (pair.cost_class, pair.cost_l1, pair.cost_giou, pair.cost)
        cells = [
            f"{pair.segment + 1} {truth_labels[pair.segment]}",
            Markup(swatch(pair.query) + str(pair.query)),
            labels[pair.query],
            *(f"{cost:.2f}" for cost in costs),
        ]
        html += rows([cells], {3, 4, 5, 6}).replace("<tr>", f'<tr data-query="{pair.query}">')
    return html


def verdict_rows(
    verdicts: list[Verdict], truth_labels: list[str], segments_info: list[dict], names: list[str]
) -> str:
    """Rows of true and predicted segments: what became of each.

    Args:
        truth_labels: of each true segment.
        names: of the classes.
    """
    cells = []
    for v in verdicts:
        kind = "hit-text" if v.verdict == "hit" else "wrong-text"
        info = None if v.predicted_id is None else segments_info[v.predicted_id - 1]
        if info is not None:
            label = names[info["category_id"]]
        else:
            label = "" if v.segment is None else truth_labels[v.segment]
        cells.append(
            [
                Markup(f'<span class="{kind}">{v.verdict}</span>'),
                label,
                f"{v.iou:.2f}",
                "" if v.segment is None else v.segment + 1,
                "" if info is None else info["id"],
            ]
        )
    return rows(cells, {2})
