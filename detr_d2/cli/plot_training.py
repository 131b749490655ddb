"""Draw losses, learning rate, PQ and AP of one or more trainings into one figure."""

import argparse
from pathlib import Path

from ..engine.metrics_file import read_curves
from ..engine.tools import save_figure
from ..engine.training_curves import draw_curves, name_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="the OUTPUT_DIR of a training, running or finished, or its metrics.json",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("training.png"),
        help="the figure: .png, .svg or .pdf (default: training.png)",
    )
    args = parser.parse_args()
    figure = draw_curves({name: read_curves(run) for name, run in name_runs(args.runs).items()})
    save_figure(figure, args.output)
    print(f"Drawn: {args.output}")
