"""What a training wrote to its metrics.json."""

import json
from collections import defaultdict
from itertools import takewhile
from pathlib import Path

import numpy as np

from ..errors import UserError

Curves = dict[str, list[tuple[int, float]]]  # of each metric (iteration, value), in order


def read_curves(path: Path) -> Curves:
    """Read a metrics.json of Detectron2: one JSON object a line, some metrics of one iteration.

    A line that a stopped training left unfinished is passed over. Where a resumed training went
    back, what it did again replaces what was there from that iteration on.

    Args:
        path: the file, or the folder that it is in.

    Raises:
        UserError: where there is no such file, or no metric in it.
    """
    file = path / "metrics.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} does not exist: give a training's OUTPUT_DIR or metrics.json.")
    curves: Curves = defaultdict(list)
    latest = -1
    for line in file.read_text(errors="replace").splitlines():
        metrics = _parse(line)
        iteration = metrics.pop("iteration", None)
        if not isinstance(iteration, int):
            continue
        # Evaluations may be written late, but losses never are: they tell when a run went back.
        if "total_loss" in metrics:
            if iteration <= latest:
                _forget_from(curves, iteration)
            latest = iteration
        for name, value in metrics.items():
            if isinstance(value, int | float):
                curves[name].append((iteration, value))
    if not curves:
        raise UserError(f"{file} has no line with metrics: give the metrics.json of a training.")
    return {name: sorted(points) for name, points in curves.items()}


def _parse(line: str) -> dict:
    # A resumed training goes on in the line that was left unfinished.
    start = line.rfind("{")
    try:
        return json.loads(line[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}


def _forget_from(curves: Curves, iteration: int) -> None:
    for points in curves.values():
        points[:] = takewhile(lambda point: point[0] < iteration, sorted(points))


def seconds_spent(curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """How long the iterations of a training took; evaluations are not counted.

    Returns:
        Numbers of iterations, 0 and those after which a loss was logged, and the seconds that
        had been spent on them.
    """
    losses = curves.get("total_loss", [])
    # The logged time of an iteration is the median since the line before; the first have none.
    time_of = dict(curves.get("time", []))
    done = np.array([0, *(i + 1 for i, _ in losses)])
    return done, np.cumsum(np.diff(done, prepend=0) * [0, *(time_of.get(i, 0) for i, _ in losses)])
