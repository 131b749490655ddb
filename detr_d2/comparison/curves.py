"""How training went, from the metrics.json that Detectron2's training loop writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib

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
    losses, qualities = list(history.losses), list(history.qualities)
    last, images, seconds = -1, history.images, history.seconds
    for iteration, metrics in read_metrics(path):
        images = history.images + (iteration + 1) * batch
        # The logged time of an iteration is the median since the last line.
        seconds += metrics.get("time", 0.0) * (iteration - last)
        last = iteration
        if "total_loss" in metrics:
            losses.append((images, metrics["total_loss"]))
        if "panoptic_seg/PQ" in metrics:
            qualities.append((images, seconds / 3600, metrics["panoptic_seg/PQ"]))
    return History(history.iterations + last + 1, images, seconds, losses, qualities)


def read_metrics(path: Path) -> list[tuple[int, dict]]:
    """(iteration, metrics) ascending; of an iteration that was run again, the last run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    merged: dict[int, dict] = {}
    for metrics in lines:
        iteration = int(metrics["iteration"])
        # A resumed training starts before the end of what was logged.
        merged = {i: m for i, m in merged.items() if i <= iteration}
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
