#!/usr/bin/env python
"""Ten minutes from nothing to a trained, evaluated, visible panoptic DETR, on synthetic shapes.

Every step is a command that one could type; it is printed before it runs.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CONFIGS = Path("configs/Shapes-PanopticSegmentation")
WEIGHTS = CONFIGS / "checkpoint" / "panoptic_detr_R_18_narrow_dc5.pth"
OUTPUT = Path("output/demo")
DATASET = "shapes_panoptic_val"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    train_net = ["tools/train_net.py", "--config-file", str(CONFIGS / "panoptic_detr_demo.yaml")]

    step("1 of 4: draw the dataset", ["tools/prepare_shapes.py"])
    step(
        "2 of 4: evaluate the checkpoint that ships with the project",
        [*train_net, "--eval-only", "OUTPUT_DIR", str(OUTPUT / "before")],
    )
    step(
        "3 of 4: train on from it, and evaluate again",
        [*train_net, "OUTPUT_DIR", str(OUTPUT / "training")],
    )
    step(
        "4 of 4: draw predictions beside the ground truth",
        [
            *("tools/demo.py", *train_net[1:], "--dataset", DATASET, "--limit", "16"),
            *("--output", str(OUTPUT)),
            *("MODEL.WEIGHTS", str(OUTPUT / "training" / "model_final.pth")),
        ],
    )
    metrics = (OUTPUT / "training" / "metrics.json").read_text().splitlines()
    quality = [x["panoptic_seg/PQ"] for x in map(json.loads, metrics) if "panoptic_seg/PQ" in x]
    print(f"demo: PQ={quality[-1]:.1f} on {DATASET}, pictures in {OUTPUT}")


def step(title: str, command: list[str]) -> None:
    print(f"\n=== {title}\n$ python {shlex.join(command)}", flush=True)
    finished = subprocess.run([sys.executable, "-W", "ignore", *command], check=False)
    if finished.returncode:
        sys.exit(f"error: step {title} failed, see above.")


if __name__ == "__main__":
    main()
