"""Panoptic quality as numbers for the log, as a table, and as JSON."""

import math

import numpy as np
from tabulate import tabulate

from .panoptic_files import ImageResult
from .panoptic_quality import SIZES, PanopticQuality, Quality

_NAMES = ("PQ", "SQ", "RQ")


def averages(quality: PanopticQuality, categories: list[dict]) -> dict[str, tuple[Quality, int]]:
    """Mean quality over the classes of a kind that have a segment, and how many these are.

    Returns:
        From "all", "things", "stuff", "small", "medium" and "large".
    """
    of_class = quality.per_class()
    things = [bool(category["isthing"]) for category in categories]
    kinds = {"all": [True] * len(things), "things": things, "stuff": [not t for t in things]}
    per_class = {
        kind: Quality(*(x[np.array(chosen)] for x in of_class)) for kind, chosen in kinds.items()
    }
    per_class.update((size, quality.per_class(size)) for size in SIZES)
    return {
        kind: (one.mean(), sum(not math.isnan(pq) for pq in one.pq))
        for kind, one in per_class.items()
    }


def metrics(quality: PanopticQuality, categories: list[dict]) -> dict[str, float]:
    """In percent: PQ, SQ, RQ, each also with `_th`, `_st`, `_small`, `_medium` and `_large`, and
    PQ-NAME of each class; NaN where there is nothing to find and nothing was found."""
    suffixes = {"all": "", "things": "_th", "stuff": "_st"}
    results: dict[str, float] = {}
    for kind, (average, _) in averages(quality, categories).items():
        suffix = suffixes.get(kind, f"_{kind}")
        results.update((f"{name}{suffix}", 100 * float(x)) for name, x in zip(_NAMES, average))
    for category, pq in zip(categories, quality.per_class().pq):
        results[f"PQ-{category['name']}"] = 100 * float(pq)
    return results


def table(quality: PanopticQuality, categories: list[dict]) -> str:
    """One row a kind and a class, in percent, with true and false positives and negatives."""
    rows = []
    for kind, (average, classes) in averages(quality, categories).items():
        rows.append([kind.capitalize(), *_percent(average), f"{classes} classes", "", ""])
    for row in _class_rows(quality, categories):
        percent = [100 * row[name] for name in ("pq", "sq", "rq")]
        rows.append([row["name"], *percent, row["tp"], row["fp"], row["fn"]])
    return tabulate(rows, ["", *_NAMES, "found", "false", "missed"], "pipe", floatfmt=".1f")


def as_json(
    quality: PanopticQuality, categories: list[dict], images: list[ImageResult], name: str
) -> dict:
    """All of it, between 0 and 1, null where it is not defined.

    Args:
        name: of the dataset.
    """
    report = {
        "dataset": name,
        "averages": {
            kind: {"classes": classes, **_values(average)}
            for kind, (average, classes) in averages(quality, categories).items()
        },
        "classes": _class_rows(quality, categories),
        "images": [image_row(image) for image in images],
        "remarks": [remark for image in images for remark in image.match.remarks],
    }
    return _without_nan(report)


def image_row(image: ImageResult) -> dict:
    """One image: its quality over all segments, whatever their category, and its counts."""
    match = image.match
    return {
        "image_id": image.image_id,
        "file_name": image.file_name,
        **_values(match.quality()),
        "tp": int(match.hits.sum()),
        "fp": int(match.false.sum()),
        "fn": int(match.missed.sum()),
    }


def _class_rows(quality: PanopticQuality, categories: list[dict]) -> list[dict]:
    of_class = quality.per_class()
    rows = []
    for place, category in enumerate(categories):
        rows.append(
            {
                "id": category["id"],
                "name": category["name"],
                "isthing": bool(category["isthing"]),
                **_values(Quality(*(x[place] for x in of_class))),
                "tp": int(quality.tp[place].sum()),
                "fp": int(quality.fp[place].sum()),
                "fn": int(quality.fn[place].sum()),
            }
        )
    return rows


def _values(quality: Quality) -> dict[str, float]:
    return {name: float(x) for name, x in zip(("pq", "sq", "rq"), quality)}


def _percent(quality: Quality) -> list[float]:
    return [100 * float(x) for x in quality]


def _without_nan(value):
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_without_nan(x) for x in value]
    return None if isinstance(value, float) and math.isnan(value) else value
