"""Train and evaluate several models on the same data, and write one report of all of them.

A configuration is trained into its OUTPUT_DIR, unless there is a model_final.pth in it: that is
then taken as it is. What was interrupted goes on from its last checkpoint. Results are kept in
DIR/NAME/*.json and used again as long as configuration and weights are the same: to evaluate or
measure a model again, delete that file; to train it again, delete its OUTPUT_DIR.
"""

import argparse
from itertools import takewhile
from pathlib import Path

from detectron2.utils.logger import setup_logger

from ..comparison import compare, read_candidates
from ..engine.tools import add_overrides, overrides_of, positive_int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config",
        nargs="+",
        required=True,
        metavar="YAML",
        help="a model each; A.yaml+B.yaml is trained in two steps and evaluated with B.yaml",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="of the report")
    parser.add_argument(
        "--images",
        type=positive_int,
        default=8,
        help="examples to draw, and images that the models disagree on (default: 8 of each)",
    )
    parser.add_argument(
        "--load",
        action="store_true",
        help="load MODEL.WEIGHTS of each configuration instead of training it",
    )
    add_overrides(parser, "all of the YAMLs")
    args = parser.parse_args()
    setup_logger(str(args.output))
    setup_logger(str(args.output), name="detr_d2")
    # Behind --config, argparse takes the overrides for more of it.
    configs = list(takewhile(lambda x: x.endswith((".yaml", ".yml")), args.config))
    configs = configs or args.config[:1]  # which is then refused by its name
    args.opts = [*args.config[len(configs) :], *args.opts]
    candidates = read_candidates(configs, overrides_of(args))
    print(f"the report is {compare(candidates, args.output, args.images, args.load)}")
