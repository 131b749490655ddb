"""How training went, from the metrics.json that Detectron2's training loop writes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..engine.metrics_file import read_curves, seconds_spent
from ..engine.training_curves import smoothed
from .candidates import Candidate


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
    curves = read_curves(path)
    losses = curves.get("total_loss", [])
    done, spent = seconds_spent(curves)
    spent = history.seconds + spent

    def images_after(iteration: int) -> int:
        # The last evaluation has the number of an iteration that there was not.
        return history.images + min(iteration + 1, int(done[-1])) * batch

    return History(
        iterations=history.iterations + int(done[-1]),
        images=history.images + int(done[-1]) * batch,
        seconds=float(spent[-1]),
        losses=[*history.losses, *((images_after(i), loss) for i, loss in losses)],
        qualities=history.qualities
        + [
            (images_after(i), float(np.interp(i + 1, done, spent)) / 3600, pq)
            for i, pq in curves.get("panoptic_seg/PQ", [])
        ],
    )


def draw_histories(histories: dict[str, History]) -> Figure:
    """PQ against time and the total loss against images seen, a line for each candidate."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    quality, loss = figure.subplots(1, 2)
    for name, history in histories.items():
        hours = [hours for _, hours, _ in history.qualities]
        quality.plot(hours, [pq for *_, pq in history.qualities], marker="o", label=name)
        images = [images for images, _ in history.losses]
        loss.plot(images, smoothed([value for _, value in history.losses]), label=name)
    quality.set(xlabel="hours of training", ylabel="PQ (percent)", ylim=(0, 100))
    loss.set(xlabel="images seen", ylabel="total loss", yscale="log")
    for axes in (quality, loss):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
