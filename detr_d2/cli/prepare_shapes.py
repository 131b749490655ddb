"""Draw the synthetic dataset shapes_panoptic_{train,val} into Detectron2's dataset folder."""

import argparse

from ..data.registration import datasets_root
from ..data.shapes import IMAGES_OF_SPLIT, write_shapes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=f"{__doc__} The folder is $DETECTRON2_DATASETS, or ./datasets.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train, val = IMAGES_OF_SPLIT["train"], IMAGES_OF_SPLIT["val"]
    parser.add_argument("--train", type=int, default=train, help="images of train")
    parser.add_argument("--val", type=int, default=val, help="images of val")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    args = parser.parse_args()
    folder = datasets_root() / "shapes_panoptic"
    if folder.exists():
        print(f"{folder} is there already; remove it to draw it anew.")
        return
    write_shapes(folder, {"train": args.train, "val": args.val}, args.seed)
    print(f"Wrote {folder}.")
