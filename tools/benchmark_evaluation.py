#!/usr/bin/env python
"""Time panoptic quality beside panopticapi, on random maps or on files of one's own."""

import argparse
import statistics
import tempfile
from pathlib import Path

from tabulate import tabulate

from detr_d2.data.files import write_json
from detr_d2.engine.tools import positive_int, run_tool
from detr_d2.evaluation.speed import compare_speed, write_random_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--files",
        nargs=4,
        metavar=("TRUTH_JSON", "TRUTH_ROOT", "FOUND_JSON", "FOUND_ROOT"),
        help="COCO panoptic JSONs and their folders of PNGs (default: random maps)",
    )
    parser.add_argument(
        "--images", type=positive_int, default=100, help="random images (default: 100)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(480, 640),
        help="of random images, in pixels (default: 480 640)",
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=5, help="timed runs of each (default: 5)"
    )
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = args.files or write_random_files(Path(folder), args.images, tuple(args.size))
        result = compare_speed(*files, args.rounds)
    rows = [
        [name, statistics.median(times), min(times), max(times), result["pq"].get(name)]
        for name, times in result["milliseconds"].items()
    ]
    headers = ["milliseconds an image", "median", "least", "most", "PQ"]
    print(tabulate(rows, headers, "pipe", floatfmt=("", ".2f", ".2f", ".2f", ".12f")))
    if args.json:
        write_json(args.json, result)


if __name__ == "__main__":
    run_tool(main)
