"""Write a page of predictions beside their ground truth, the images of the lowest PQ first.

Open index.html of the output folder in a browser; no server is needed.
"""

import argparse

from ..engine.tools import add_levels, levels_of, positive_int
from ..evaluation.results_page import write_results_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-root", required=True, help="folder of the photographs")
    parser.add_argument("--panoptic-root", required=True, help="folder of the ground truth's PNGs")
    parser.add_argument("--panoptic-json", required=True, help="the ground truth's JSON")
    parser.add_argument(
        "--predictions",
        required=True,
        help="folder with predictions.json and panoptic/, such as OUTPUT_DIR/inference/DATASET",
    )
    parser.add_argument("--output", required=True, help="folder of the page")
    parser.add_argument(
        "--limit",
        type=positive_int,
        default=100,
        help="images to draw, from the worst (default: 100)",
    )
    add_levels(parser)
    args = parser.parse_args()
    drawn = write_results_page(
        args.image_root,
        args.panoptic_root,
        args.panoptic_json,
        args.predictions,
        args.output,
        args.limit,
        levels_of(args),
    )
    print(f"{drawn} images in {args.output}/index.html")
