"""One HTML page that shows and tells what happened to an image inside the model."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
from markupsafe import Markup
from tqdm import tqdm

from ..data.files import write_text
from ..engine.tools import save_picture
from ..modeling.meta_arch import DETR, PanopticDETR
from ..pages import render
from . import tables
from .boxes_picture import boxes_picture
from .explained import Explained
from .figure import Figure
from .figures import all_figures
from .ground_truth import GroundTruth, matched_pairs, verdicts
from .image_trace import ImageTrace
from .page_data import page_data
from .part_facts import part_facts
from .trace import trace
from .verdict_figure import verdict_figure


def write_explanation(
    model: DETR,
    inputs: dict,
    photograph: np.ndarray,
    folder: Path,
    *,
    name: str,
    class_names: list[str],
    truth: GroundTruth | None = None,
    score_threshold: float = 0.85,
) -> ImageTrace:
    """Trace one image and write `index.html`, `trace.json` and `figures/*.png` into a folder.

    The page needs no other file and no network.

    Args:
        model: in eval mode.
        inputs: of the model for the image, see `Predictor.prepare`.
        photograph: (H', W', 3) uint8, RGB.
        name: what the page calls the image.
        class_names: by contiguous class.
        truth: for matching, hits and misses.
        score_threshold: of a model that gives boxes alone; a panoptic model has its own.
    """
    (image,) = trace(model, [inputs], score_threshold)
    threshold = getattr(model, "panoptic_score_threshold", score_threshold)
    explained = Explained(model, image, photograph, name, class_names, threshold)
    figures = all_figures(explained)
    compared = _compare(explained, truth, figures) if truth is not None else {}
    described = image.describe()

    for old in (folder / "figures").glob("query-*.png"):
        old.unlink()  # of another image
    for figure in tqdm(figures, "Writing figures"):
        save_picture(figure.sheet(photograph), folder / "figures" / f"{figure.name}.png")
    save_picture(boxes_picture(explained), folder / "figures" / "boxes.png")
    tensors = [_finite(row) for row in described]
    content = {"image": name, "letters": explained.letters(), "tensors": tensors}
    write_text(folder / "trace.json", json.dumps(content, indent=1))
    write_text(folder / "index.html", _html(explained, described, figures, compared))
    return image


def _html(
    explained: Explained, described: list[dict], figures: list[Figure], compared: dict
) -> str:
    image = explained.image
    facts = {**_facts(explained), **part_facts(explained)}
    all_tables = {
        **_tensor_tables(described),
        "queries": tables.query_table(image, explained.labels),
        **facts.pop("tables"),
    }
    if explained.has_masks:
        facts.update(_facts_of_masks(explained))
        all_tables.update(_tables_of_masks(explained))
    if compared:
        all_tables.update(compared["tables"])
    return render(
        __package__,
        "page.html",
        **facts,
        tables=all_tables,
        matched=bool(compared),
        verdict_counts=compared.get("verdict_counts"),
        queries=tables.query_list(image, explained.labels),
        data=Markup(page_data(explained, figures)),
    )


def _facts(explained: Explained) -> dict:
    image, letters = explained.image, explained.letters()
    finest = f"from {_shape(image, 'res2')} (H/4) to " if "res2" in image else ""
    return {
        "M": "M",  # of a transformer whose attentions are not known
        **letters,
        "name": explained.name,
        "model": "panoptic DETR" if explained.has_masks else "DETR",
        "shape_memory": _shape(image, "memory"),
        "backbone_shapes": f"{finest}{_shape(image, 'res5')} (H/{image.res5_stride})",
        "num_kept": len(explained.kept),
        "num_logits": letters["C"] + 1,
        "threshold": explained.threshold,
        "image_size": "{1} pixels wide and {0} high".format(*explained.photograph.shape),
        "stride": image.res5_stride,
        "cells": image["memory"][0].numel(),
    }


def _shape(image: ImageTrace, name: str) -> str:
    return " x ".join(map(str, image[name].shape))


def _facts_of_masks(explained: Explained) -> dict:
    image, letters = explained.image, explained.letters()
    assert isinstance(explained.model, PanopticDETR)
    return {
        "num_segments": len(image.output["panoptic_seg"][1]),
        "head_width": letters["d"] // letters["M"],
        "map_size": " x ".join(map(str, image["maps"].shape[-2:])),
        "num_masked": letters["K"],
        "width_concatenation": letters["d"] + letters["M"],
        "rule": explained.model.merging,
        "none_small": explained.steps and explained.steps[-1].title == "stuff united",
    }


def _tables_of_masks(explained: Explained) -> dict[str, tables.Table]:
    return {
        "merging": tables.merging_table(explained.steps, explained.kept),
        "segments": tables.segment_table(
            explained.image.output["panoptic_seg"][1],
            explained.queries_of_id,
            explained.number_of_id,
            explained.class_names,
        ),
    }


def _compare(explained: Explained, truth: GroundTruth, figures: list[Figure]) -> dict:
    """What is told beside the ground truth; its figure is appended to `figures`."""
    labels = [explained.class_names[c] for c in truth.classes.tolist()]
    pairs = matched_pairs(explained.image, truth, explained.model.criterion.matcher)
    compared: dict = {"tables": {"pairs": tables.pair_table(pairs, labels, explained.labels)}}
    if not explained.has_masks:
        return compared
    predicted, segments_info = explained.image.output["panoptic_seg"]
    found = verdicts(predicted, segments_info, truth)
    result = predicted.cpu().numpy()
    figures.append(verdict_figure(truth.segment_map, result, found, explained.photograph))
    counts = Counter(verdict.verdict for verdict in found)
    plurals = {"hit": "hits", "miss": "misses", "false alarm": "false alarms"}
    texts = [f"{counts[kind]} {kind if counts[kind] == 1 else plurals[kind]}" for kind in plurals]
    compared["verdict_counts"] = ", ".join(texts)
    compared["tables"]["verdicts"] = tables.verdict_table(
        found, labels, segments_info, explained.class_names
    )
    return compared


_TENSORS_OF_SECTION = {
    "image": "image",
    "backbone": r"res\d",
    "projected": "projected",
    "positions": "positions",
    "encoder": r"encoder\..*|memory",
    "pyramid": r"pyramid\..*",
    "proposals": r"cells\..*|proposals",
    "decoder": r"(stuff_)?queries|content|decoder\..*|hs|logits|boxes|scores|classes|kept",
    "maps": "mask_queries|maps",
    "semantic": "semantic",
    "steps": r"mask_head\..*|(start|coarse)_logits",
    "windows": "windows?(_.*)?",
    "masks": "mask_logits|full_mask_logits",
    "result": "panoptic_seg",
}


def _tensor_tables(described: list[dict]) -> dict[str, tables.Table]:
    """Of each section, what its tensors are."""
    return {
        section: tables.tensor_table(described, pattern)
        for section, pattern in _TENSORS_OF_SECTION.items()
    }


def _finite(row: dict) -> dict:
    """JSON has no infinity and no NaN."""
    ends = row["range"]
    return {**row, "range": ends and [x if math.isfinite(x) else str(x) for x in ends]}
