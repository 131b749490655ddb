"""Show on one HTML page what happens to an image inside the model, step by step.

The folder gets index.html (self-contained: no network, no server), its figures as PNG, and
trace.json: name, shape, dtype and range of every tensor on the way.
"""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.utils.logger import setup_logger

from ..classes import first_dataset
from ..data.depth import GreyLevels
from ..engine import Predictor, setup_cfg
from ..engine.defaults import number_classes_like_weights
from ..engine.sources import dataset_images, find_images
from ..engine.tools import add_overrides, overrides_of
from ..errors import UserError
from ..explain.ground_truth import read_ground_truth
from ..explain.page import write_explanation


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", help="an image")
    source.add_argument("--dataset", help="a registered panoptic dataset, for its ground truth")
    parser.add_argument(
        "--index", type=int, default=0, help="which image of the dataset, from 0 (default: 0)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the page")
    add_overrides(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    setup_logger(name="detr_d2")
    cfg = setup_cfg(args.config_file, overrides_of(args))
    number_classes_like_weights(cfg, [args.dataset] if args.dataset else [])
    metadata = MetadataCatalog.get(first_dataset(cfg))
    levels = GreyLevels.from_config(cfg)
    sources = (
        dataset_images(args.dataset, levels) if args.dataset else find_images([args.input], levels)
    )
    index = args.index if args.dataset else 0
    if not 0 <= index < len(sources):
        raise UserError(
            f"{args.dataset} has no image {index}: give --index 0 to {len(sources) - 1}."
        )
    source = sources[index]
    photograph = source.read()
    predictor = Predictor(cfg)
    write_explanation(
        predictor.model,
        predictor.prepare(photograph[:, :, ::-1]),
        photograph,
        args.output,
        name=Path(source.path).name,
        class_names=metadata.thing_classes,
        truth=read_ground_truth(source.dataset_dict) if source.dataset_dict else None,
    )
    print(f"{args.output / 'index.html'}")
