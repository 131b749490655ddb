"""The options of `prepare boxes`, and what they ask for."""

import argparse
import statistics
from pathlib import Path

from tabulate import tabulate

from .. import labelling
from ..data.files import write_json
from ..engine import setup_cfg
from ..engine.tools import add_overrides, overrides_of
from ..errors import UserError

DESCRIPTION = (
    "COCO's instances JSON of boxes alone: a model draws the masks. OUTPUT gets "
    "instances_NAME.json, for `instances` and `autolabel`. Behind the options stand keys of the "
    "model's configuration, such as MODEL.WEIGHTS model.pth."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all that `boxes` has."""
    parser.add_argument("--image-root", type=Path, required=True, help="folder of the images")
    parser.add_argument("--instances-json", type=Path, required=True)
    parser.add_argument("--config-file", required=True, help="of the model: a YAML of configs/")
    result = parser.add_mutually_exclusive_group(required=True)
    result.add_argument("--output", type=Path, help="folder that is written to")
    result.add_argument(
        "--compare",
        action="store_true",
        help="write nothing, but draw in the boxes of the masks that are there already, and say "
        "how near to these it comes",
    )
    parser.add_argument("--name", default="train", help="of the new JSON (default: train)")
    add_overrides(parser, "the model's YAML")


def run(args: argparse.Namespace) -> None:
    """Draw, and write or compare."""
    path = None if args.compare else args.output / f"instances_{args.name}.json"
    if path is not None and path.exists():
        raise UserError(f"{path} exists already: remove it, or choose another --output or --name.")
    images = labelling.BoxedImages.read(args.image_root, args.instances_json)
    draw = labelling.BoxMasks(setup_cfg(args.config_file, overrides_of(args)))
    if path is None:
        print(_table(images.compare(draw)))
        return
    drawn, unseen = images.add_masks(draw)
    write_json(path, images.content)
    print(f"Drew {drawn} masks: {path}")
    if unseen:
        print(f"In {unseen} of the boxes the model sees nothing: these masks are the whole box.")
    print("It is an --instances-json of `instances`, and of `autolabel`, which adds stuff.")


def _table(found: dict[str, list[float]]) -> str:
    """IoU by class, and of all objects together."""
    rows = {name: ious for name, ious in found.items() if ious}
    everything = [iou for ious in rows.values() for iou in ious]
    if not everything:
        raise UserError("No annotation has both a bbox and a segmentation: nothing is compared.")
    head = ("class", "objects", "mean IoU", "median", "above 0.5")
    lines = [
        (name, len(ious), statistics.mean(ious), statistics.median(ious), _share(ious))
        for name, ious in (*rows.items(), ("all", everything))
    ]
    return tabulate(lines, head, floatfmt=".3f")


def _share(ious: list[float]) -> str:
    return f"{100 * sum(iou > 0.5 for iou in ious) / len(ious):.1f}%"
