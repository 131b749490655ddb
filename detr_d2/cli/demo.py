"""Draw panoptic segmentation and boxes of images, a dataset, a video or a camera.

Of images, each picture shows the image, its panoptic segmentation and its boxes side by side; with
--dataset, the ground truth as well. Of a video or a camera, the panoptic segmentation (or, of a
model without masks, the boxes) is drawn over the frames and written as a video.
"""

import argparse
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from ..classes import first_dataset
from ..data.depth import GreyLevels
from ..drawing import draw_frame, draw_prediction, side_by_side
from ..engine import Predictor, setup_cfg
from ..engine.defaults import number_classes_like_weights
from ..engine.sources import ImageSource, chunks, dataset_images, find_images
from ..engine.tools import add_overrides, overrides_of, positive_int, save_picture
from ..engine.video import FrameSource, annotate
from ..errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        nargs="+",
        help="images, folders of images, or globs in quotes; followed by another option",
    )
    source.add_argument("--dataset", help="a registered panoptic dataset")
    source.add_argument("--video", type=Path, help="a video file, as OpenCV reads it")
    source.add_argument(
        "--camera",
        type=int,
        metavar="INDEX",
        help="a camera, 0 for the first; Ctrl-C stops it and completes the video",
    )
    parser.add_argument(
        "--limit", type=positive_int, help="images or frames to draw, from the first (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the pictures, or of the video (.mp4)"
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.85,
        help="boxes that score below are not drawn (default: 0.85)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=4,
        help="images that are run together, at most (default: 4); of a camera, the frames that "
        "came meanwhile, and older ones are dropped",
    )
    add_overrides(parser)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    setup_logger(name="detr_d2")
    cfg = configuration(args)
    number_classes_like_weights(cfg, [args.dataset] if args.dataset else [])
    metadata = MetadataCatalog.get(first_dataset(cfg))
    if args.video is not None or args.camera is not None:
        with FrameSource(args.video if args.camera is None else args.camera) as source:
            return draw_video(args, source, Predictor(cfg), metadata)
    levels = GreyLevels.from_config(cfg)
    sources = (
        dataset_images(args.dataset, levels) if args.dataset else find_images(args.input, levels)
    )
    return draw_images(args, sources[: args.limit], Predictor(cfg), metadata)


def configuration(args) -> CfgNode:
    """That of the command line, without the masks of `instances`, which are not drawn."""
    overrides = [*overrides_of(args), "MODEL.DETR.INSTANCES.MASKS_ON", "False"]
    return setup_cfg(args.config_file, overrides)


def draw_video(args, source: FrameSource, predictor: Predictor, metadata) -> int:
    def draw(frames):
        pairs = zip(frames, predictor(frames))
        return [draw_frame(f[:, :, ::-1], o, metadata, args.score_threshold) for f, o in pairs]

    name = args.video.stem if args.camera is None else f"camera-{args.camera}"
    path = args.output / f"{name}-drawn.mp4"
    drawn = annotate(source, path, draw, args.batch_size, args.limit)
    print(f"{drawn} frames in {path}")
    return 0


def draw_images(args, sources: list[ImageSource], predictor: Predictor, metadata) -> int:
    unreadable = []
    with tqdm(total=len(sources), desc="Drawing") as progress:
        for batch in chunks(sources, args.batch_size):
            readable = []
            for source in batch:
                try:
                    readable.append((source, source.read()))
                except UserError as error:
                    unreadable.append(str(error))
            outputs = predictor([image[:, :, ::-1] for _, image in readable])
            for (source, image), output in zip(readable, outputs):
                pictures = [(source.name, image)]
                pictures += source.ground_truth(image, metadata)
                pictures += draw_prediction(image, output, metadata, args.score_threshold)
                save_picture(side_by_side(pictures), args.output / f"{source.name}.png")
            progress.update(len(batch))
    for sentence in unreadable:
        print(f"error: {sentence}")
    print(f"{len(sources) - len(unreadable)} pictures in {args.output}")
    return 1 if unreadable else 0
