"""From configurations to a report; what was done before is not done again."""

import logging
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

from ..data.depth import GreyLevels
from ..engine.sources import dataset_images, evenly
from ..errors import UserError
from ..evaluation import results_folder
from .candidates import Candidate
from .curves import History, draw_histories, history_of
from .pictures import disagreements, gallery
from .predictions import SavedPredictions
from .report import Section, drawing, write_report
from .stages import cost, evaluate, train
from .tables import cost_table, quality_tables

logger = logging.getLogger(__name__)

_HOW_FAR = (
    "Disagreement is 1 - PQ between the two predictions of an image, all segments taken together: "
    "0 where they are equal, 1 where no segment of one matches a segment of the other."
)


def compare(candidates: list[Candidate], output: Path, images: int, load: bool) -> Path:
    """Train, evaluate and measure all candidates in turn, and write one report.

    Args:
        output: gets report.html, report.md, pictures/, and a folder for each candidate.
        images: how many examples are drawn, and how many of those that differ most.
        load: take MODEL.WEIGHTS of each candidate as they are instead of training it.

    Returns:
        report.html.
    """
    weights = {}
    for candidate in candidates:
        if load and not candidate.cfg.MODEL.WEIGHTS:
            raise UserError(
                f"{candidate.files[-1]} has no MODEL.WEIGHTS to load: set it, or train."
            )
        weights[candidate.name] = candidate.cfg.MODEL.WEIGHTS if load else train(candidate)
    results, costs = {}, {}
    for candidate in candidates:
        name, folder = candidate.name, output / candidate.name
        results[name] = evaluate(candidate, weights[name], folder)
        costs[name] = cost(candidate, weights[name], folder)
    # An evaluation numbers the classes as its weights do, so that metadata are read behind all.
    metadata = MetadataCatalog.get(candidates[0].dataset)
    predictions = {
        c.name: SavedPredictions(Path(results_folder(output / c.name, c.dataset)), metadata)
        for c in candidates
    }
    histories = {c.name: None if load else history_of(c) for c in candidates}

    sections = [
        _candidates_section(candidates, weights),
        *(Section(title, tables=[table]) for title, table in quality_tables(results).items()),
        _cost_section(costs, histories),
        *_curves_sections(histories),
        *_picture_sections(candidates[0], predictions, images),
    ]
    _, page = write_report(output, f"Comparison on {candidates[0].dataset}", sections)
    return page


def _candidates_section(candidates: list[Candidate], weights: dict[str, str]) -> Section:
    text = "\n\n".join(
        f"{c.name}: {c.cfg.MODEL.META_ARCHITECTURE}, configured by {', then '.join(c.files)}, "
        f"weights {weights[c.name]}."
        for c in candidates
    )
    return Section("Candidates", text)


def _cost_section(costs: dict[str, dict], histories: dict[str, History | None]) -> Section:
    devices = " and ".join(sorted({c["device"] for c in costs.values()}))
    text = (
        f"Inference on one image at a time, measured on: {devices}. Multiply-adds are those of "
        "convolutions and matrix products, in most papers called FLOPs. Memory includes the "
        "weights. Hours of training are those of its iterations, without evaluations."
    )
    return Section("Cost", text, [cost_table(costs, histories)])


def _curves_sections(histories: dict[str, History | None]) -> list[Section]:
    known = {name: history for name, history in histories.items() if history is not None}
    if not known:
        return []
    text = "Total losses of different models are sums of different terms: compare their shapes."
    curves = drawing("learning_curves", "Learning curves", draw_histories(known))
    return [Section("Learning curves", text, pictures=[curves])]


def _picture_sections(
    first: Candidate, predictions: dict[str, SavedPredictions], images: int
) -> list[Section]:
    metadata = MetadataCatalog.get(first.dataset)
    sources = dataset_images(first.dataset, GreyLevels.from_config(first.cfg))
    captions = [source.name for source in sources]
    examples = evenly(len(sources), images)
    chosen = [("Examples", "example", examples)]
    if len(predictions) > 1:
        apart = disagreements(sources, predictions)
        captions = [f"{name}: disagreement {x:.2f}" for name, x in zip(captions, apart)]
        most = np.argsort(apart, kind="stable")[::-1][:images].tolist()
        chosen.append(("Where they disagree most", "disagreement", most))
    sections = []
    for title, prefix, places in chosen:
        of_these = ([sources[p] for p in places], predictions, metadata)
        pictures = gallery(prefix, *of_these, [captions[p] for p in places])
        text = _HOW_FAR if len(predictions) > 1 else ""
        sections.append(Section(title, text, pictures=pictures))
    return sections
