#!/usr/bin/env python
"""Ten minutes from random weights to a trained, evaluated, visible panoptic DETR, on shapes.

Every step is a command that one could type; it is printed before it runs. While the model learns,
its curve is drawn anew at each evaluation: curve.png in the output folder.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from detr_d2.data.files import read_json
from detr_d2.engine import setup_cfg
from detr_d2.engine.metrics_file import Curves, read_curves
from detr_d2.engine.tools import add_overrides, run_tool, save_figure
from detr_d2.evaluation.build import results_folder
from detr_d2.learning import draw_learning, evaluations, follow

CONFIGS = Path("configs/Shapes-PanopticSegmentation")
CONFIG = str(CONFIGS / "panoptic_detr_demo.yaml")
DATASET = "shapes_panoptic_val"
# What the result is compared with: a checkpoint that was trained for longer, and its model.
SHIPPED_CONFIG = CONFIGS / "panoptic_detr_fast.yaml"
SHIPPED_WEIGHTS = CONFIGS / "checkpoint" / "panoptic_detr_fast.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder")
    add_overrides(parser, of=f"the training's {CONFIG}")
    args = parser.parse_args()
    training, shipped = args.output / "training", args.output / "shipped"
    curve, pictures = args.output / "curve.png", args.output / "stages.png"
    clean(training, shipped, curve, pictures)

    run("1 of 4: draw the dataset", ["tools/prepare_shapes.py"])
    iterations = setup_cfg(CONFIG, args.opts).SOLVER.MAX_ITER
    start = time.monotonic()
    train(training, iterations, curve, args.opts)
    minutes = (time.monotonic() - start) / 60
    run(
        "3 of 4: draw what three stages of the training make of held-out images",
        [
            *("tools/draw_stages.py", "--config-file", CONFIG, "--training", str(training)),
            *("--dataset", DATASET, "--output", str(pictures), *args.opts),
        ],
    )
    compared = evaluate_shipped(shipped)
    curves = read_curves(training)
    figure = draw_learning(curves, iterations, ("shipped checkpoint", compared))
    save_figure(figure, curve)
    print(f"\ndemo: {evaluations(curves)[-1]} on {DATASET}, {minutes:.1f} minutes after random")
    print(f"weights; the shipped checkpoint, which was trained for longer: PQ {compared:.1f}.")
    print(f"The learning curve is {curve}, pictures of the stages are {pictures}.")


def clean(*results: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    for path in results:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def train(folder: Path, iterations: int, curve: Path, opts: list[str]) -> None:
    def show(curves: Curves) -> None:
        save_figure(draw_learning(curves, iterations), curve)
        last = evaluations(curves)[-1]
        tqdm.write(f"{last.minutes:5.1f} minutes, {last.iterations} iterations: {last}")

    title = "2 of 4: train from random weights"
    options = ["--config-file", CONFIG, *opts, "OUTPUT_DIR", str(folder)]
    command = announce(title, ["tools/train_net.py", *options])
    print(f"Its log: {folder / 'log.txt'}. The learning curve: {curve}", flush=True)
    end_if_failed(title, follow(command, folder, iterations, show))


def evaluate_shipped(folder: Path) -> float:
    """PQ in percent of the checkpoint that ships with the project."""
    run(
        "4 of 4: for comparison, evaluate the checkpoint that ships with the project",
        [
            *("tools/train_net.py", "--eval-only", "--config-file", str(SHIPPED_CONFIG)),
            *("MODEL.WEIGHTS", str(SHIPPED_WEIGHTS), "OUTPUT_DIR", str(folder)),
        ],
        quiet=True,
    )
    report = read_json(Path(results_folder(folder, DATASET), "panoptic_quality.json"))
    return 100 * report["averages"]["all"]["pq"]


def run(title: str, command: list[str], quiet: bool = False) -> None:
    stdout = subprocess.DEVNULL if quiet else None
    command = announce(title, command)
    end_if_failed(title, subprocess.run(command, stdout=stdout, check=False).returncode)


def announce(title: str, command: list[str]) -> list[str]:
    print(f"\n=== {title}\n$ python {shlex.join(command)}", flush=True)
    return [sys.executable, "-W", "ignore", *command]


def end_if_failed(title: str, code: int) -> None:
    if code:
        sys.exit(f"error: step {title} failed, see above.")


if __name__ == "__main__":
    run_tool(main)
