"""Draw what a model makes of the same images at several stages of its training, side by side.

The stages are checkpoints, in about equal steps from the first to the last of the training.
"""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog

from ..classes import first_dataset
from ..data.depth import GreyLevels
from ..engine import setup_cfg
from ..engine.defaults import number_classes_like_weights
from ..engine.sources import dataset_images
from ..engine.tools import add_overrides, overrides_of, positive_int, save_picture
from ..learning import draw_stages, stages_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="the YAML of the training")
    parser.add_argument("--training", type=Path, required=True, help="its OUTPUT_DIR")
    parser.add_argument("--dataset", required=True, help="a registered panoptic dataset")
    parser.add_argument("--stages", type=positive_int, default=3, help="checkpoints (default: 3)")
    parser.add_argument(
        "--limit", type=positive_int, default=4, help="images, from the first (default: 4)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("stages.png"), help="a PNG (default: stages.png)"
    )
    add_overrides(parser)
    args = parser.parse_args()
    stages = stages_of(args.training, args.stages)
    weights = ("MODEL.WEIGHTS", str(stages[-1].checkpoint))
    cfg = setup_cfg(args.config_file, [*overrides_of(args), *weights])
    number_classes_like_weights(cfg, [args.dataset])
    sources = dataset_images(args.dataset, GreyLevels.from_config(cfg))[: args.limit]
    metadata = MetadataCatalog.get(first_dataset(cfg))
    save_picture(draw_stages(cfg, stages, sources, metadata), args.output)
    print(f"Drawn: {args.output}")
