"""Checkpoints of a training, from its first to its last, and what they make of the same images."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata
from PIL import Image

from ..data.panoptic_map import read_segment_map
from ..drawing import draw_segments
from ..engine import Predictor
from ..engine.metrics_file import read_curves
from ..engine.sources import ImageSource, evenly
from ..errors import UserError
from .curve import Evaluation, evaluations
from .table import CELL, Column, draw_table

_OPACITY = 0.75  # of segments: little of the image, so that a class looks as in the legend


@dataclass(frozen=True)
class Stage:
    """
    Attributes:
        checkpoint: its weights.
        iterations: that they were trained for.
        evaluation: of these weights, if there was one.
    """

    checkpoint: Path
    iterations: int
    evaluation: Evaluation | None

    @property
    def title(self) -> list[str]:
        """Two lines."""
        if self.evaluation is None:
            return [f"after {self.iterations} steps", ""]
        e = self.evaluation
        return [f"after {e.minutes:.1f} minutes: PQ {e.quality:.1f}", e.kinds]


def stages_of(folder: Path, count: int) -> list[Stage]:
    """`count` of a training's checkpoints in about equal steps, the first and the last included.

    Args:
        folder: the OUTPUT_DIR of the training, running or finished.

    Raises:
        UserError: where there are no checkpoints or no metrics.
    """
    curves = read_curves(folder)
    found = {
        int(match[1]) + 1: path
        for path in folder.glob("model_*.pth")
        if (match := re.fullmatch(r"model_(\d+)\.pth", path.name))
    }
    final = folder / "model_final.pth"
    if final.is_file() and "total_loss" in curves:
        found[curves["total_loss"][-1][0] + 1] = final
    if not found:
        raise UserError(f"{folder} has no checkpoint, model_*.pth: give a training's OUTPUT_DIR.")
    of_iterations = {e.iterations: e for e in evaluations(curves)}
    stages = [Stage(path, i, of_iterations.get(i)) for i, path in sorted(found.items())]
    return [stages[n] for n in evenly(len(stages), count)]


def draw_stages(
    cfg: CfgNode, stages: list[Stage], sources: list[ImageSource], metadata: Metadata
) -> Image.Image:
    """A table of pictures: a row an image; columns for it, its ground truth, and each stage.

    Args:
        cfg: of the model; its weights are the stages'.
        sources: with ground truth.
    """
    images = [source.read() for source in sources]
    truths = [_ground_truth(source) for source in sources]
    columns = [Column(["held-out image", ""], images)]
    columns.append(Column(["ground truth", ""], list(_drawn(images, truths, metadata))))
    for stage in stages:
        outputs = _predictor(cfg, stage.checkpoint)([image[:, :, ::-1] for image in images])
        found = [(seg.cpu().numpy(), infos) for seg, infos in (o["panoptic_seg"] for o in outputs)]
        columns.append(Column(stage.title, list(_drawn(images, found, metadata))))
    return draw_table(columns, metadata)


def _predictor(cfg: CfgNode, checkpoint: Path) -> Predictor:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(checkpoint)
    cfg.MODEL.DETR.INSTANCES.MASKS_ON = False  # the panoptic map is drawn
    return Predictor(cfg)


def _ground_truth(source: ImageSource) -> tuple[np.ndarray, list[dict]]:
    """(H, W) segments from 1, and the `id` and `category_id` of each."""
    infos = [
        {**info, "id": t} for t, info in enumerate(source.of_dataset["segments_info"], start=1)
    ]
    return read_segment_map(source.of_dataset), infos


def _drawn(images: list, maps: list, metadata: Metadata) -> Iterator[np.ndarray]:
    for image, (ids, infos) in zip(images, maps):
        yield draw_segments(
            image, ids, infos, metadata, least_width=CELL, names=False, opacity=_OPACITY
        )
