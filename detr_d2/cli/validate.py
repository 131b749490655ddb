"""Read a COCO panoptic dataset once, and say all that training or evaluation would stumble over.

Then come statistics and the lines of a configuration that use the dataset. The exit code is 1
where something is wrong, and 0 otherwise.
"""

import argparse

from ..data import validation
from ..data.parallel import available_processors
from ..engine.tools import add_levels, levels_of


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-root", required=True, help="folder of the images")
    parser.add_argument("--panoptic-root", required=True, help="folder of the PNGs")
    parser.add_argument("--panoptic-json", required=True, help="the JSON")
    parser.add_argument(
        "--against",
        nargs=2,
        metavar=("IMAGE_ROOT", "JSON"),
        help="the other split: images that are in both are found by their pixels",
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="rewrite the JSON with the areas, boxes, sizes and names of the files, iscrowd 0 "
        "where there is none, and without segments that have no pixel; the old JSON is kept as "
        "JSON.before-fix, and PNGs and images are not touched",
    )
    add_levels(parser)
    parser.add_argument(
        "--examples", type=int, default=5, help="sentences to print of a kind (default: 5)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=available_processors(),
        help="processes (default: %(default)s, the processors)",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    dataset = validation.Dataset(args.image_root, args.panoptic_root, args.panoptic_json)
    against = tuple(args.against) if args.against else None
    report = validation.validate(dataset, against, args.workers, levels_of(args))
    print(report.text(args.examples))
    if not (args.fix and any(problem.can_be_fixed for problem in report.problems)):
        return int(report.is_wrong)
    copy, fixed = validation.fix(report)
    print(f"\nFixed {fixed} problems; the JSON as it was is {copy}.")
    return int(any(p.wrong and not p.can_be_fixed for p in report.problems))
