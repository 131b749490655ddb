"""The numbers of a comparison as tables: one column for each candidate."""

import math
from dataclasses import dataclass

from .curves import History

_OVERALL = {"": "all", "_th": "things", "_st": "stuff"}
_QUALITIES = ("PQ", "SQ", "RQ")


@dataclass(frozen=True)
class Table:
    """
    Attributes:
        headers: of the columns, the first is that of the row titles.
        rows: the title and one text for each candidate.
        best: for each row the column with the best value, None where there is no such thing.
    """

    headers: list[str]
    rows: list[list[str]]
    best: list[int | None]


def quality_tables(results: dict[str, dict]) -> dict[str, Table]:
    """PQ, SQ and RQ overall, by size and by class, and AP: titles and tables.

    Args:
        results: what the evaluators give for each candidate, percent.
    """
    panoptic = {name: result["panoptic_seg"] for name, result in results.items()}
    keys = list(dict.fromkeys(key for metrics in panoptic.values() for key in metrics))
    suffixes = list(dict.fromkeys(key[2:] for key in keys if key[:2] in _QUALITIES))
    sizes = [s for s in suffixes if s.startswith("_") and s not in _OVERALL]
    classes = [s for s in suffixes if s.startswith("-")]
    tables = {
        "Panoptic quality": _qualities(panoptic, _OVERALL),
        "By size": _qualities(panoptic, {s: s[1:].replace("_", " ") for s in sizes}),
        "By class": _qualities(panoptic, {s: s[1:] for s in classes}),
        "Average precision of things": _average_precision(results),
    }
    return {title: table for title, table in tables.items() if table.rows}


def _qualities(panoptic: dict[str, dict], titles: dict[str, str]) -> Table:
    rows = []
    for suffix, title in titles.items():
        for quality in _QUALITIES:
            key = f"{quality}{suffix}"
            if any(key in metrics for metrics in panoptic.values()):
                values = [metrics.get(key) for metrics in panoptic.values()]
                rows.append((f"{quality} {title}", values))
    return _percent_table(list(panoptic), rows)


def _average_precision(results: dict[str, dict]) -> Table:
    rows = []
    for task, kind in {"bbox": "box", "segm": "mask"}.items():
        for key in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
            values = [result.get(task, {}).get(key) for result in results.values()]
            if any(value is not None for value in values):
                rows.append((f"{kind} {key}", values))
    return _percent_table(list(results), rows)


def _percent_table(names: list[str], rows: list[tuple[str, list]]) -> Table:
    rows = [
        (title, [None if v is None or math.isnan(v) else v for v in values])
        for title, values in rows
    ]
    texts = [[title, *("-" if v is None else f"{v:.1f}" for v in values)] for title, values in rows]
    return Table(["percent", *names], texts, [_best(shown, max) for _, *shown in texts])


def cost_table(costs: dict[str, dict], histories: dict[str, History | None]) -> Table:
    """Parameters, multiply-adds, time and memory of inference; iterations and time of training."""
    rows = [
        ("parameters (millions)", [c["parameters"] / 1e6 for c in costs.values()], ".2f"),
        (
            "multiply-adds an image (10^9)",
            [c["multiply_adds"] / 1e9 for c in costs.values()],
            ".3f",
        ),
        ("time an image (ms)", [1000 * c["seconds"] for c in costs.values()], ".1f"),
        ("peak memory (MiB)", [c["peak_bytes"] / 2**20 for c in costs.values()], ".0f"),
    ]
    known = [histories[name] for name in costs]
    texts, best = [], []
    for title, values, form in rows:
        texts.append([title, *(format(v, form) for v in values)])
        best.append(_best(texts[-1][1:], min))
    for title, of in (
        ("training: iterations", lambda h: f"{h.iterations:,}"),
        ("training: images seen", lambda h: f"{h.images:,}"),
        ("training: hours", lambda h: f"{h.seconds / 3600:.2f}"),
    ):
        texts.append([title, *("-" if h is None else of(h) for h in known)])
        best.append(None)
    return Table(["", *costs], texts, best)


def _best(shown: list[str], choose) -> int | None:
    """The place of the best number, where all are known and one is seen to be better."""
    if len(shown) < 2 or "-" in shown:
        return None
    values = [float(text) for text in shown]
    best = choose(values)
    return None if values.count(best) > 1 else values.index(best)
