"""What a training wrote to its metrics.json, drawn."""

import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from ..errors import UserError
from .metrics_file import Curves

# A panel's title, its metrics with their line styles, and whether its axis is logarithmic.
# Panels that no run has metrics for are left out.
_PANELS = [
    ("total loss", {"total_loss": "-"}, True),
    ("class loss", {"loss_ce": "-"}, True),
    ("box loss, L1", {"loss_bbox": "-"}, True),
    ("box loss, GIoU", {"loss_giou": "-"}, True),
    ("mask loss", {"loss_mask": "-"}, True),
    ("dice loss", {"loss_dice": "-"}, True),
    ("matched queries of a wrong class, %", {"class_error": "-"}, False),
    ("learning rate", {"lr": "-"}, False),
    ("norm of the gradient", {"gradient_norm": "-"}, True),
    ("share of clipped steps", {"clipped": "-"}, False),
    ("images a second", {"images_per_second": "-"}, False),
    ("seconds of an iteration spent waiting for images", {"data_time": "-"}, False),
    ("memory, MiB", {"memory_mb": "-"}, False),
    (
        "PQ (dashed: things, dotted: stuff)",
        {"panoptic_seg/PQ": "-", "panoptic_seg/PQ_th": "--", "panoptic_seg/PQ_st": ":"},
        False,
    ),
    ("AP of boxes (dashed: of masks)", {"bbox/AP": "-", "segm/AP": "--"}, False),
]
_COLUMNS = 3
_PANEL_SIZE = (5.0, 3.4)  # inches
_FEW_POINTS = 30  # up to which each is marked


def name_runs(paths: list[Path]) -> dict[str, Path]:
    """A name for each run: that of its folder, or its whole path where two folders are alike."""
    paths = list(dict.fromkeys(path.absolute() for path in paths))
    names = [path.parent.name if path.suffix == ".json" else path.name for path in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths)}


def draw_curves(runs: dict[str, Curves]) -> Figure:
    """One figure of losses, learning rate and quality, a panel each and a colour a run.

    Args:
        runs: of each run its curves, by the name that the legend gives it.

    Raises:
        UserError: where none of the runs has a metric to draw.
    """
    known = set().union(*runs.values())
    panels = [panel for panel in _PANELS if known & panel[1].keys()]
    panels += _panels_of_other_losses(known)
    if not panels:
        raise UserError(f"There is no loss, learning rate or PQ in {', '.join(runs)} to draw.")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (_PANEL_SIZE[0] * columns, _PANEL_SIZE[1] * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, styles, logarithmic) in zip(grid, panels):
        _draw_panel(axes, runs, styles)
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
        if logarithmic:
            set_logarithmic(axes)
        else:
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    for axes in grid[len(panels) :]:
        axes.remove()
    handles = [Line2D([], [], color=f"C{n}", label=run) for n, run in enumerate(runs)]
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _panels_of_other_losses(known: set[str]) -> list[tuple]:
    """Those of other models; those of single decoder layers end in a number and are left out."""
    shown = {name for _, styles, _ in _PANELS for name in styles}
    others = sorted(name for name in known - shown if re.fullmatch(r"loss_[a-z_]*[a-z]", name))
    return [(name, {name: "-"}, True) for name in others]


def _draw_panel(axes: Axes, runs: dict[str, Curves], styles: dict[str, str]) -> None:
    """A few points are marked; many noisy ones are pale, with their moving average over them."""
    for number, curves in enumerate(runs.values()):
        color = f"C{number}"
        for name, style in styles.items():
            points = curves.get(name, [])
            iterations, values = [i for i, _ in points], [v for _, v in points]
            few = len(points) <= _FEW_POINTS
            if few or name == "lr":
                marker = "o" if few else None
                axes.plot(iterations, values, style, color=color, marker=marker, markersize=4)
            else:
                axes.plot(iterations, values, style, color=color, alpha=0.3, linewidth=1)
                axes.plot(iterations, smoothed(values), style, color=color)


def smoothed(values: list[float]) -> np.ndarray:
    """The mean of each value and those around it, a fiftieth of all."""
    window = np.ones(2 * (len(values) // 100) + 1)
    sums = np.convolve(values, window, "same")
    return sums / np.convolve(np.ones(len(values)), window, "same")  # fewer at the ends


def set_logarithmic(axes: Axes) -> None:
    """With labels of plain numbers, also where the axis is shorter than a power of ten."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
