"""How training went, from the metrics.json that Detectron2's training loop writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.figure import Figure

from .candidates import Candidate

_SMOOTH_OVER = 15  # logged losses


@dataclass(frozen=True)
class History:
    """All steps of a training, one after the other.

    Attributes:
        iterations: how many.
        images: that were seen, repeated ones counted.
        seconds: spent on iterations; evaluations are not counted.
        losses: (images seen, total loss) where it was logged.
        qualities: (images seen, hours, PQ in percent) of each evaluation.
    """

    iterations: int
    images: int
    seconds: float
    losses: list[tuple[int, float]]
    qualities: list[tuple[int, float, float]]


def history_of(candidate: Candidate) -> History | None:
    """None where one of its steps has left no metrics.json."""
    history = History(0, 0, 0.0, [], [])
    for cfg in candidate.cfgs:
        path = Path(cfg.OUTPUT_DIR, "metrics.json")
        if not path.is_file():
            return None
        history = _append(history, path, cfg.SOLVER.IMS_PER_BATCH)
    return history


def _append(history: History, path: Path, batch: int) -> History:
    metrics = read_metrics(path)
    trained = [(i, m) for i, m in metrics if "total_loss" in m]
    # The logged time of an iteration is the median since the line before.
    done = np.array([0, *(i + 1 for i, _ in trained)])
    spent = np.cumsum([0.0, *(m.get("time", 0.0) for _, m in trained)] * np.diff(done, prepend=0))
    images = history.images + done * batch

    losses = [m["total_loss"] for _, m in trained]
    qualities = []
    for iteration, m in metrics:
        if "panoptic_seg/PQ" in m:
            seen = np.interp(iteration + 1, done, images)
            seconds = history.seconds + np.interp(iteration + 1, done, spent)
            qualities.append((int(seen), float(seconds) / 3600, m["panoptic_seg/PQ"]))
    return History(
        iterations=history.iterations + int(done[-1]),
        images=int(images[-1]),
        seconds=history.seconds + float(spent[-1]),
        losses=[*history.losses, *zip(images[1:].tolist(), losses)],
        qualities=[*history.qualities, *qualities],
    )


def read_metrics(path: Path) -> list[tuple[int, dict]]:
    """(iteration, metrics) ascending; of an iteration that was run again, the last run.

    Evaluations are written after the iterations that followed them, and the last one has the
    number of an iteration that there was not.
    """
    merged: dict[int, dict] = {}
    for line in path.read_text().splitlines():
        metrics = json.loads(line)
        iteration = int(metrics["iteration"])
        if "total_loss" in metrics:
            # A resumed training starts before the end of what was logged.
            merged = {i: m for i, m in merged.items() if i < iteration}
        merged[iteration] = {**merged.get(iteration, {}), **metrics}
    return sorted(merged.items())


def draw_curves(histories: dict[str, History]) -> Figure:
    """PQ against time and the total loss against images seen, a line for each candidate."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    quality, loss = figure.subplots(1, 2)
    for name, history in histories.items():
        hours = [hours for _, hours, _ in history.qualities]
        quality.plot(hours, [pq for *_, pq in history.qualities], marker="o", label=name)
        images = [images for images, _ in history.losses]
        loss.plot(images, _smooth([value for _, value in history.losses]), label=name)
    quality.set(xlabel="hours of training", ylabel="PQ (percent)", ylim=(0, 100))
    loss.set(xlabel="images seen", ylabel="total loss", yscale="log")
    for axes in (quality, loss):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _smooth(values: list[float]) -> list[float]:
    """The mean of each value and those shortly before it."""
    starts = (max(0, end - _SMOOTH_OVER) for end in range(1, len(values) + 1))
    return [sum(values[s:e]) / (e - s) for e, s in enumerate(starts, 1)]
