"""Draw what the model is really trained on: augmented images with their boxes and segments."""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ..drawing import side_by_side
from ..engine import Trainer, setup_cfg
from ..engine.tools import add_overrides, overrides_of, positive_int, save_picture
from ..engine.training_inputs import draw_training_input
from ..errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument(
        "--limit", type=positive_int, default=20, help="pictures to draw (default: 20)"
    )
    add_overrides(parser)
    args = parser.parse_args()

    cfg = setup_cfg(args.config_file, overrides_of(args))
    if not cfg.DATASETS.TRAIN:
        raise UserError("There is nothing to train on: set DATASETS.TRAIN.")
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    inputs = (x for batch in Trainer.build_train_loader(cfg) for x in batch)
    for number, x in zip(tqdm(range(args.limit), "Drawing"), inputs):
        pictures = draw_training_input(x, metadata, cfg.INPUT.FORMAT)
        name = f"{number:04d}-{Path(x['file_name']).stem}.png"
        save_picture(side_by_side(pictures), args.output / name)
    print(f"{args.limit} pictures in {args.output}")
