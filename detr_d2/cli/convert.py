"""Convert a checkpoint of DETR between this project, the official code and Hugging Face."""

import argparse

from detectron2.utils.logger import setup_logger

from ..checkpoint import WRITERS, convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", metavar="SRC", help="a file, URL or Hugging Face folder")
    parser.add_argument("target", metavar="DST", help="file (folder for huggingface) to write")
    parser.add_argument("--to", required=True, choices=WRITERS, help="the format to write")
    parser.add_argument("--half", action="store_true", help="write half precision")
    parser.add_argument(
        "--dc5", action="store_true", help="SRC is a DC5 model, which official files do not say"
    )
    args = parser.parse_args()
    setup_logger(name="detr_d2")
    convert(args.source, args.target, args.to, half=args.half, dc5=args.dc5)
