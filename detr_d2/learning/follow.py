"""A training in a process of its own, with its progress as a bar."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..engine.metrics_file import Curves, read_curves

_PAUSE = 1.0  # seconds between two looks at what the training has written


def follow(
    command: list[str],
    folder: Path,
    iterations: int,
    on_evaluation: Callable[[Curves], None],
    pause: float = _PAUSE,
) -> int:
    """Run a training to its end; what it prints is not shown, except for errors.

    Args:
        command: which starts it.
        folder: its OUTPUT_DIR, without the metrics.json of another training.
        iterations: that it will have.
        on_evaluation: called with all metrics so far whenever there are some of an evaluation
            more.
        pause: seconds between two looks at what it has written.

    Returns:
        The exit code.
    """
    # Its own bars would write over this one.
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        with tqdm(total=iterations, desc="Training", unit="step") as bar:
            seen = 0
            running = True
            while running:
                running = process.poll() is None  # looked at first, so that nothing is missed
                curves = _curves_so_far(folder)
                _show(bar, curves)
                evaluated = len(curves.get("panoptic_seg/PQ", []))
                if evaluated > seen:
                    on_evaluation(curves)
                seen = evaluated
                if running:
                    time.sleep(pause)
        return process.returncode
    finally:
        process.terminate()  # where this was interrupted; else it has ended
        process.wait()


def _curves_so_far(folder: Path) -> Curves:
    """None of them while no line is complete."""
    path = folder / "metrics.json"
    return read_curves(path) if path.is_file() and "\n" in path.read_text() else {}


def _show(bar: tqdm, curves: Curves) -> None:
    if losses := curves.get("total_loss"):
        iteration, loss = losses[-1]
        bar.set_postfix(loss=f"{loss:.1f}", refresh=False)
        bar.update(iteration + 1 - bar.n)
