"""Write a model for other runtimes, from the picture to the boxes and the panoptic map.

What is written is run at once beside the model, on a landscape, a portrait and a square of
photographs; where they differ, nothing is kept. docs/deployment.md says what goes in and comes out.
"""

import argparse
from pathlib import Path

import numpy as np
from detectron2.utils.logger import setup_logger

from ..data.depth import GreyLevels
from ..engine import Predictor, setup_cfg
from ..engine.sources import dataset_images, find_images
from ..engine.tools import add_overrides, overrides_of, positive_int
from ..errors import UserError
from ..export import PRECISIONS, SUFFIXES, DisagreementError, Options, export_model

_ENOUGH = 3  # photographs


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    parser.add_argument(
        "--format",
        choices=SUFFIXES,
        required=True,
        help="of the file; web is ONNX in a page that runs it in a browser",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the file")
    parser.add_argument(
        "--input",
        nargs="+",
        help="photographs for the check: images, folders of images, or globs in quotes (default: "
        "the first of DATASETS.TEST); followed by another option",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=1, help="pictures of one call (default: 1)"
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=positive_int,
        metavar=("HEIGHT", "WIDTH"),
        help="of all pictures, which torch-export asks for; by default any",
    )
    parser.add_argument(
        "--floats", action="store_true", help="pictures are float32, 0 to 255, and not uint8"
    )
    parser.add_argument(
        "--max-masks",
        type=positive_int,
        help="compute so many masks, and leave out what is kept beyond them; by default as many as "
        "are kept, and all queries' for torch-export, which cannot ask how many these are",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of ONNX: float16 stores weights in half, int8 has linear layers computed in eight "
        "bits (default: float32)",
    )
    parser.add_argument(
        "--onnxruntime-web",
        type=Path,
        default=Path("node_modules/onnxruntime-web"),
        metavar="FOLDER",
        help="for a page: the package, as npm installs it (default: node_modules/onnxruntime-web)",
    )
    add_overrides(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    setup_logger(name="detr_d2")
    size = tuple(args.size) if args.size else None
    options = Options(
        args.format,
        args.batch_size,
        size,
        args.floats,
        args.max_masks,
        args.precision,
        args.onnxruntime_web,
    )
    cfg = setup_cfg(args.config_file, ["MODEL.DEVICE", "cpu", *overrides_of(args)])
    photographs = _photographs(args.input, cfg)
    try:
        path, table = export_model(cfg, Predictor(cfg), args.output, photographs, options)
    except DisagreementError as error:
        print(error.table)
        raise
    print(f"{table}\n{path}")


def _photographs(given: list[str] | None, cfg) -> list[np.ndarray]:
    levels = GreyLevels.from_config(cfg)
    if given:
        sources = find_images(given, levels)
    elif cfg.DATASETS.TEST:
        sources = dataset_images(cfg.DATASETS.TEST[0], levels)
    else:
        raise UserError("There are no photographs for the check: give some, with --input.")
    return [source.read() for source in sources[:_ENOUGH]]
