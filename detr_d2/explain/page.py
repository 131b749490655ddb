"""One HTML page that shows and tells what happened to an image inside the model."""

import json
import math
from collections import Counter
from html import escape
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.files import write_text
from ..engine.tools import save_picture
from ..modeling.meta_arch import DETR, PanopticDETR
from . import tables
from .boxes_picture import boxes_picture
from .explained import Explained
from .figure import Figure
from .figures import all_figures
from .ground_truth import GroundTruth, matched_pairs, verdicts
from .image_trace import ImageTrace
from .page_data import page_data
from .part_sections import how_matched, part_sections
from .templates import template, text
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
    ground_truth = _ground_truth(explained, truth, figures) if truth is not None else ""
    described = image.describe()

    for old in (folder / "figures").glob("query-*.png"):
        old.unlink()  # of another image
    for figure in tqdm(figures, "Writing figures"):
        save_picture(figure.sheet(photograph), folder / "figures" / f"{figure.name}.png")
    save_picture(boxes_picture(explained), folder / "figures" / "boxes.png")
    tensors = [_finite(row) for row in described]
    content = {"image": name, "letters": explained.letters(), "tensors": tensors}
    write_text(folder / "trace.json", json.dumps(content, indent=1))
    write_text(folder / "index.html", _html(explained, described, figures, ground_truth))
    return image


_DILATED = " The last stage is dilated in this model (DC5), so that Res5 stays as large as Res4."
_THEN_MASKS = (
    "; a mask head draws a mask for each query that is sure; and the masks are merged, so that "
    "every pixel belongs to one segment"
)
_RULES = {
    "official": (
        "Each pixel goes to the kept query with the highest mask logit there, so masks cannot "
        "overlap."
    ),
    "scores": (
        "Each pixel goes to the kept query with the highest product of class score and mask "
        "probability there, so masks cannot overlap. A query that wins less than {:.0%} of the "
        "pixels of its own mask (the red ones above) is dropped, and its pixels go to the best of "
        "the others."
    ),
}
_OTHERS_MASKED = ", and other things, whose masks are given one by one and not merged"


def _html(
    explained: Explained, described: list[dict], figures: list[Figure], ground_truth: str
) -> str:
    image, has_masks = explained.image, explained.has_masks
    facts = {**_facts(explained), **_tensor_tables(described)}
    facts.update(part_sections(explained, facts))
    num_segments = len(image.output["panoptic_seg"][1]) if has_masks else 0
    return template("page.html").substitute(
        facts,
        name=escape(explained.name),
        model="panoptic DETR" if has_masks else "DETR",
        found=f"; {num_segments} segments are left" if has_masks else "",
        projected_later=", and what the mask head starts from" if has_masks else "",
        memory_later=", and so do the attention maps" if has_masks else "",
        query_list=tables.query_list(image, explained.labels),
        query_table=tables.query_table(image, explained.labels),
        then_masks=_THEN_MASKS if has_masks else "",
        questions=template("page_questions.html").substitute(facts) if has_masks else "",
        contents=template("page_contents.html").substitute(facts) if has_masks else "",
        mask_sections=_mask_sections(explained, facts) if has_masks else "",
        ground_truth_link=' <a href="#ground-truth">Ground truth</a>' if ground_truth else "",
        ground_truth=ground_truth,
        css=text("page.css"),
        js=text("page.js"),
        data=page_data(explained, figures),
    )


def _facts(explained: Explained) -> dict:
    image, letters = explained.image, explained.letters()
    shapes = {f"shape_{name}": _shape(image, name) for name in ("res5", "memory")}
    finest = f"from {_shape(image, 'res2')} (H/4) to " if "res2" in image else ""
    return {
        "M": "M",  # of a transformer whose attentions are not known
        **letters,
        **shapes,
        "backbone_shapes": f"{finest}{shapes['shape_res5']} (H/{image.res5_stride})",
        "num_kept": len(explained.kept),
        "num_logits": letters["C"] + 1,
        "threshold": explained.threshold,
        "image_size": "{1} pixels wide and {0} high".format(*explained.photograph.shape),
        "stride": image.res5_stride,
        "dilated": _DILATED if image.res5_stride == 16 else "",
        "cells": image["memory"][0].numel(),
    }


def _shape(image: ImageTrace, name: str) -> str:
    return " x ".join(map(str, image[name].shape))


def _mask_sections(explained: Explained, facts: dict) -> str:
    image, letters = explained.image, explained.letters()
    assert isinstance(explained.model, PanopticDETR)
    names, rule = explained.class_names, explained.model.merging
    none_small = explained.steps and explained.steps[-1].title == "stuff united"
    more_masked = letters["K"] > letters["P"]
    return template("page_masks.html").substitute(
        facts,
        head_width=letters["d"] // letters["M"],
        map_size=" x ".join(map(str, image["maps"].shape[-2:])),
        num_masked=letters["K"],
        others_masked=_OTHERS_MASKED if more_masked else "",
        width_concatenation=letters["d"] + letters["M"],
        merging_rule=_RULES[rule.merge].format(rule.least_share),
        small_area=rule.small_segment_area,
        none_small=" Here no segment is small, so none is removed." if none_small else "",
        merging_rows=tables.merging_rows(explained.steps, explained.kept),
        segment_rows=tables.segment_rows(
            image.output["panoptic_seg"][1],
            explained.queries_of_id,
            explained.number_of_id,
            names,
        ),
    )


def _ground_truth(explained: Explained, truth: GroundTruth, figures: list[Figure]) -> str:
    """The section beside the ground truth; its figure is appended to `figures`."""
    labels = [explained.class_names[c] for c in truth.classes.tolist()]
    pairs = matched_pairs(explained.image, truth, explained.model.criterion.matcher)
    found = ""
    if explained.has_masks:
        found = _verdicts(explained, truth, labels, figures)
    return template("page_ground_truth.html").substitute(
        matched=how_matched(explained),
        pair_rows=tables.pair_rows(pairs, labels, explained.labels),
        verdicts=found,
    )


def _verdicts(
    explained: Explained, truth: GroundTruth, labels: list[str], figures: list[Figure]
) -> str:
    predicted, segments_info = explained.image.output["panoptic_seg"]
    found = verdicts(predicted, segments_info, truth)
    result = predicted.cpu().numpy()
    figures.append(verdict_figure(truth.segment_map, result, found, explained.photograph))
    counts = Counter(verdict.verdict for verdict in found)
    plurals = {"hit": "hits", "miss": "misses", "false alarm": "false alarms"}
    texts = [f"{counts[kind]} {kind if counts[kind] == 1 else plurals[kind]}" for kind in plurals]
    return template("page_verdicts.html").substitute(
        verdict_counts=", ".join(texts),
        verdict_rows=tables.verdict_rows(found, labels, segments_info, explained.class_names),
    )


_TENSORS_OF_SECTION = {
    "table_image": "image",
    "table_backbone": r"res\d",
    "table_projected": "projected",
    "table_positions": "positions",
    "table_encoder": r"encoder\..*|memory",
    "table_pyramid": r"pyramid\..*",
    "table_proposals": r"cells\..*|proposals",
    "table_decoder": r"(stuff_)?queries|content|decoder\..*|hs|logits|boxes|scores|classes|kept",
    "table_maps": "mask_queries|maps",
    "table_semantic": "semantic",
    "table_steps": r"mask_head\..*|(start|coarse)_logits",
    "table_windows": "windows?(_.*)?",
    "table_masks": "mask_logits|full_mask_logits",
    "table_result": "panoptic_seg",
}


def _tensor_tables(described: list[dict]) -> dict[str, str]:
    return {
        section: tables.tensor_table(described, pattern)
        for section, pattern in _TENSORS_OF_SECTION.items()
    }


def _finite(row: dict) -> dict:
    """JSON has no infinity and no NaN."""
    ends = row["range"]
    return {**row, "range": ends and [x if math.isfinite(x) else str(x) for x in ends]}
