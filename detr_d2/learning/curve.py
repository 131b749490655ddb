"""What the evaluations of a training found, as numbers and as a figure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..engine.metrics_file import Curves, seconds_spent
from ..engine.training_curves import set_logarithmic, smoothed

_LINES = {  # what is drawn of an evaluation: its name, colour and width
    "things": ("things", "C3", 1.5),
    "stuff": ("stuff", "C2", 1.5),
    "quality": ("PQ", "black", 2.5),
}
_LEAST_APART = 5  # PQ, between the labels at the lines' ends


@dataclass(frozen=True)
class Evaluation:
    """
    Attributes:
        iterations: that the model was trained for before it.
        minutes: that they took; evaluations are not counted.
        quality, things, stuff: PQ of all classes, of things and of stuff, in percent; NaN where
            the dataset has no such class.
    """

    iterations: int
    minutes: float
    quality: float
    things: float
    stuff: float

    def __str__(self) -> str:
        return f"PQ {self.quality:.1f} {self.kinds}".rstrip()

    @property
    def kinds(self) -> str:
        """PQ of things and of stuff, in brackets; of those that there are."""
        kinds = {"things": self.things, "stuff": self.stuff}
        known = [f"{name} {value:.1f}" for name, value in kinds.items() if not np.isnan(value)]
        return f"({', '.join(known)})" if known else ""


def evaluations(curves: Curves) -> list[Evaluation]:
    """The evaluations of a training, from the first to the last."""
    done, seconds = seconds_spent(curves)
    things, stuff = (dict(curves.get(f"panoptic_seg/PQ_{kind}", [])) for kind in ("th", "st"))
    found = []
    for i, quality in curves.get("panoptic_seg/PQ", []):
        # The last evaluation has the number of an iteration that there was not.
        iterations = min(i + 1, int(done[-1]))
        minutes = float(np.interp(iterations, done, seconds)) / 60
        values = quality, things.get(i, np.nan), stuff.get(i, np.nan)
        found.append(Evaluation(iterations, minutes, *values))
    return found


def draw_learning(
    curves: Curves, iterations: int, compared: tuple[str, float] | None = None
) -> Figure:
    """PQ at each evaluation and the total loss, against minutes of training.

    Args:
        curves: of a training, which may be running.
        iterations: that it will have in the end: the axes are as long as they will take.
        compared: name and PQ (percent) of another model, for a dashed line.
    """
    done, seconds = seconds_spent(curves)
    minutes = seconds / 60
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    quality, loss = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_quality(quality, evaluations(curves), compared)
    values = [value for _, value in curves.get("total_loss", [])]
    loss.plot(minutes[1:], values, color="C0", alpha=0.3, linewidth=1)
    loss.plot(minutes[1:], smoothed(values), color="C0")
    set_logarithmic(loss)
    loss.set_title("total loss")
    for axes in (quality, loss):
        axes.set_xlabel("minutes of training")
        axes.set_xlim(0, minutes[-1] * iterations / max(done[-1], 1) or 1)
        axes.grid(alpha=0.3)
    return figure


def _draw_quality(axes: Axes, found: list[Evaluation], compared: tuple[str, float] | None) -> None:
    minutes = [e.minutes for e in found]
    for name, (_, color, width) in _LINES.items():
        values = [getattr(e, name) for e in found]
        style: dict[str, Any] = {"color": color, "linewidth": width, "marker": "o", "markersize": 5}
        axes.plot(minutes, values, **style, clip_on=False)  # also at 0, and at the end
    if found:
        _label_ends(axes, found[-1])
    if compared is not None:
        name, value = compared
        axes.axhline(value, color="gray", linestyle="--", linewidth=1)
        axes.annotate(
            f"{name}: {value:.1f}",
            (0, value),
            xytext=(4, 3),
            textcoords="offset points",
            color="gray",
            fontsize=9,
        )
    axes.set_title("panoptic quality of held-out images, %")
    axes.set_ylim(0, 100)


def _label_ends(axes: Axes, last: Evaluation) -> None:
    """Names and numbers right of the lines' last points, moved up where they would touch."""
    ends = [(getattr(last, n), label, color) for n, (label, color, _) in _LINES.items()]
    height = -np.inf
    for value, label, color in sorted(end for end in ends if not np.isnan(end[0])):
        height = max(value, height + _LEAST_APART)
        axes.annotate(
            f"{label} {value:.1f}",
            (last.minutes, height),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=9,
            annotation_clip=False,
        )
