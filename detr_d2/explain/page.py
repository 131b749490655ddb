"""One HTML page that shows and tells what happened to an image inside the model."""

import json
import math
import os
from collections import Counter
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from tqdm import tqdm

from ..engine.tools import save_picture
from ..modeling.meta_arch import DETR, PanopticDETR
from . import figures as draw
from . import tables
from .figure import Figure
from .ground_truth import GroundTruth, Verdict, matched_pairs, verdicts
from .image_trace import ImageTrace
from .merging import MergingStep, merging_steps
from .trace import trace

_MAP_WIDTH = 480  # pixels, at most, of the map that is pointed at


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
    page = _Page(model, image, photograph, name, class_names, score_threshold)
    if truth is not None:
        page.add_ground_truth(truth)
    described = image.describe()
    html = page.html(described)

    for old in (folder / "figures").glob("query-*.png"):
        old.unlink()  # of another image
    for figure in tqdm(page.figures, "Writing figures"):
        save_picture(figure.sheet(photograph), folder / "figures" / f"{figure.name}.png")
    letters = page.letters()
    content = {"image": name, "letters": letters, "tensors": [_finite(row) for row in described]}
    _write(folder / "trace.json", json.dumps(content, indent=1))
    _write(folder / "index.html", html)
    return image


class _Page:
    """Collects the figures and fills the templates."""

    def __init__(self, model, image, photograph, name, class_names, score_threshold):
        self.model: DETR = model
        self.image: ImageTrace = image
        self.photograph: np.ndarray = photograph
        self.name = name
        self.class_names: list[str] = class_names
        self.threshold = getattr(model, "panoptic_score_threshold", score_threshold)
        self.kept: list[int] = image["kept"].nonzero()[:, 0].tolist()
        self.labels = [class_names[c] for c in image["classes"].tolist()]
        self.has_masks = isinstance(model, PanopticDETR)
        self.steps: list[MergingStep] = self._merge() if self.has_masks else []
        self.figures: list[Figure] = self._draw()
        self.ground_truth = ""

    def _merge(self) -> list[MergingStep]:
        image, model = self.image, self.model
        return merging_steps(
            image["full_mask_logits"],
            image["classes"][image["kept"]],
            model.is_thing,
            tuple(image["panoptic_seg"].shape),
            model.small_segment_area,
            model.official_stuff_rule,
        )

    def _draw(self) -> list[Figure]:
        image = self.image
        found = [draw.photograph_figure(self.photograph), *draw.image_figures(image)]
        rows = {}
        if self.has_masks:
            rows = {query: row for row, query in enumerate(image["mask_queries"].tolist())}
            found.extend(draw.mask_figures(image, self.steps, self.photograph))
        looked_at = draw.looked_at_queries(image)
        for query in tqdm(range(len(self.labels)), "Drawing queries"):
            row = rows[query] if query in self.kept and self.has_masks else None
            found.extend(draw.query_figures(image, query, query in looked_at, row))
        return found

    def letters(self) -> dict[str, int]:
        """The numbers that the letters of shapes stand for, in this pass."""
        image = self.image
        letters = {
            "H": image["image"].shape[1],
            "W": image["image"].shape[2],
            "d": image["memory"].shape[0],
            "N": len(image["queries"]),
            "C": image["logits"].shape[1] - 1,
        }
        for level in (2, 3, 4, 5):
            if f"res{level}" in image:
                letters[f"C{level}"] = image[f"res{level}"].shape[0]
        if image.attentions:
            letters["M"] = next(iter(image.attentions.values())).module.num_heads
        if self.has_masks:
            letters.update(M=image["maps"].shape[1], K=len(image["maps"]), P=len(self.kept))
        return letters

    def add_ground_truth(self, truth: GroundTruth) -> None:
        labels = [self.class_names[c] for c in truth.classes.tolist()]
        pairs = matched_pairs(self.image, truth, self.model.criterion.matcher)
        self.ground_truth = _template("page_ground_truth.html").substitute(
            pair_rows=tables.pair_rows(pairs, labels, self.labels),
            verdicts=self._verdicts(truth, labels) if self.has_masks else "",
        )

    def _verdicts(self, truth: GroundTruth, labels: list[str]) -> str:
        predicted, segments_info = self.image.output["panoptic_seg"]
        found = verdicts(predicted, segments_info, truth)
        maps = {
            "ground truth": _kinds(truth.segment_map, found, "segment", 1),
            "result": _kinds(predicted.cpu().numpy(), found, "predicted_id", 0),
        }
        self.figures.append(draw.verdict_figure(maps, self.photograph))
        counts = Counter(verdict.verdict for verdict in found)
        texts = [
            f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
            for kind, plural in (
                ("hit", "hits"),
                ("miss", "misses"),
                ("false alarm", "false alarms"),
            )
        ]
        return _template("page_verdicts.html").substitute(
            verdict_counts=", ".join(texts),
            verdict_rows=tables.verdict_rows(found, labels, segments_info, self.class_names),
        )

    def html(self, described: list[dict]) -> str:
        image = self.image
        table = {
            part: tables.tensor_table(described, pattern)
            for part, pattern in _TENSORS_OF_SECTION.items()
        }
        facts = {**self._facts(), **table}
        num_segments = len(image.output["panoptic_seg"][1]) if self.has_masks else 0
        masks = self._mask_sections(facts) if self.has_masks else ""
        return _template("page.html").substitute(
            facts,
            name=escape(self.name),
            model="panoptic DETR" if self.has_masks else "DETR",
            found=f"; {num_segments} segments are left" if self.has_masks else "",
            projected_later=", and what the mask head starts from" if self.has_masks else "",
            memory_later=", and so do the attention maps" if self.has_masks else "",
            query_list=tables.query_list(image, self.labels),
            query_table=tables.query_table(image, self.labels),
            mask_sections=masks,
            ground_truth=self.ground_truth,
            css=_text("page.css"),
            js=_text("page.js"),
            data=_json_in_html(self._data()),
        )

    def _facts(self) -> dict:
        image, letters = self.image, self.letters()
        cells = image["memory"].shape[-2] * image["memory"].shape[-1]
        return {
            **letters,
            "M": letters.get("M", "M"),
            "C5": image["res5"].shape[0],
            "num_kept": len(self.kept),
            "num_logits": image["logits"].shape[1],
            "threshold": self.threshold,
            "image_size": f"{self.photograph.shape[1]} x {self.photograph.shape[0]}",
            "stride": image.res5_stride,
            "cells": cells,
            **{
                f"shape_{name}": " x ".join(map(str, image[name].shape))
                for name in ("res2", "res5", "memory")
                if name in image
            },
        }

    def _mask_sections(self, facts: dict) -> str:
        image, letters = self.image, self.letters()
        segments_info = image.output["panoptic_seg"][1]
        return _template("page_masks.html").substitute(
            facts,
            head_width=letters["d"] // letters["M"],
            map_size=" x ".join(map(str, image["maps"].shape[-2:])),
            num_masked=letters["K"],
            width_concatenation=letters["d"] + letters["M"],
            small_area=self.model.small_segment_area,
            merging_rows=tables.merging_rows(self.steps, self.kept),
            segment_rows=tables.segment_rows(
                segments_info, self._queries_of_id(), self.class_names
            ),
        )

    def _queries_of_id(self) -> dict[int, list[int]]:
        """For each id of the result the queries that have pixels in it, the most pixels first."""
        if not self.steps:
            return {}
        winners = draw.query_numbers(self.steps[-1].winners, self.kept)
        ids = self.image["panoptic_seg"].cpu().numpy()
        counts = Counter(zip(ids.ravel().tolist(), winners.ravel().tolist()))
        queries: dict[int, list[int]] = {}
        for (id_, query), _ in counts.most_common():
            queries.setdefault(id_, []).append(query)
        return queries

    def _data(self) -> dict:
        """What the page's JavaScript works with."""
        columns = (self.image[name].tolist() for name in ("scores", "kept", "boxes"))
        queries = [
            {
                "number": number,
                "label": self.labels[number],
                "percent": f"{score:.0%}",
                "kept": kept,
                "box": [round(x, 5) for x in box],
                "color": tables.css_color(number),
            }
            for number, (score, kept, box) in enumerate(zip(*columns))
        ]
        scores = self.image["scores"].masked_fill(~self.image["kept"], -1) if self.kept else None
        best = self.image["scores"] if scores is None else scores
        data = {
            "queries": queries,
            "kept": self.kept,
            "first": int(best.argmax()),
            "figures": {figure.name: figure.for_page() for figure in self.figures},
        }
        if self.steps:
            data["map"] = self._map()
            data["partners"] = {
                query: together
                for together in self._queries_of_id().values()
                for query in together
                if len(together) > 1
            }
        return data

    def _map(self) -> dict:
        """The winning query of each pixel, row by row, in runs: query, length, query, length."""
        winners = draw.query_numbers(self.steps[-1].winners, self.kept)
        width = min(_MAP_WIDTH, winners.shape[1])
        winners = draw.resized_numbers(winners, draw.size_of_width(winners.shape, width))
        flat = winners.ravel()
        starts = np.concatenate(([0], np.flatnonzero(np.diff(flat)) + 1))
        lengths = np.diff(starts, append=len(flat))
        runs = np.stack((flat[starts], lengths), axis=1).ravel().tolist()
        return {"w": winners.shape[1], "h": winners.shape[0], "runs": runs}


_TENSORS_OF_SECTION = {
    "table_image": "image",
    "table_backbone": r"res\d",
    "table_projected": "projected",
    "table_positions": "positions",
    "table_encoder": r"encoder\..*|memory",
    "table_decoder": r"queries|decoder\..*|hs|logits|boxes|scores|classes|kept",
    "table_maps": "mask_queries|maps",
    "table_steps": r"mask_head\..*",
    "table_masks": "mask_logits|full_mask_logits",
    "table_result": "panoptic_seg",
}


def _kinds(numbers: np.ndarray, found: list[Verdict], side: str, offset: int) -> np.ndarray:
    """A map of segment numbers from 1 to one of kinds, see `figures.verdict_figure`."""
    kinds = np.zeros(numbers.max() + 1, dtype=np.int64)
    of_verdict = {"hit": 1, "miss": 2, "false alarm": 2, "ignored": 3}
    for verdict in found:
        number = getattr(verdict, side)
        if number is not None:
            kinds[number + offset] = of_verdict[verdict.verdict]
    return kinds[numbers]


def _template(name: str) -> Template:
    return Template(_text(name))


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json_in_html(data: dict) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _finite(row: dict) -> dict:
    """JSON has no infinity and no NaN."""
    ends = row["range"]
    return {**row, "range": ends and [x if math.isfinite(x) else str(x) for x in ends]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
