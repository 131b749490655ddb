"""Writing a model for another runtime, and checking what was written before it has its name."""

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode

from ..data.files import write_text, written_beside
from ..engine import Predictor
from ..errors import UserError
from .adapter import TracingAdapter
from .check import compare, pictures_of, resized
from .check_table import table_of
from .formats import SUFFIXES, open_exported, write
from .geometry import Resize
from .metadata import metadata_of
from .options import Options
from .users_parts import named, users_parts
from .web_page import page_of


def export_model(
    cfg: CfgNode,
    predictor: Predictor,
    output: Path,
    photographs: list[np.ndarray],
    options: Options,
) -> tuple[Path, str]:
    """Write a model into a folder, and the table of the check beside it.

    Args:
        predictor: of `cfg`.
        output: the folder.
        photographs: (height, width, 3) uint8, RGB, that both are compared on.

    Returns:
        The file, and the table.

    Raises:
        UserError: where the model cannot be exported, or the file does not give what the model
            gives: then nothing is written.
    """
    resize = Resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    adapter = TracingAdapter(predictor.model, resize, options.size, options.masks).eval()
    _check_options(adapter, options)
    metadata = metadata_of(cfg, options)
    pictures = pictures_of(photographs)
    if options.size is not None:
        pictures = [resized(picture, *options.size) for picture in pictures]
    path = output / f"model{SUFFIXES[options.format_name]}"
    with written_beside(path) as unfinished:
        write(adapter, _example(pictures[0], options), unfinished, options.format_name, metadata)
        run = open_exported(unfinished, options.format_name, adapter.outputs)
        compared = compare(predictor, run, metadata, pictures)
        table = table_of(compared)
        if not all(c.agrees for c in compared):
            raise DisagreementError(_sentence(predictor.model, options), table)
        if options.format_name == "web":
            longest = resize.max_size if resize.length else max(map(_longest, photographs))
            model, package = unfinished.read_bytes(), options.onnxruntime_web
            page = page_of(model, metadata, pictures, longest, package)
            unfinished.write_text(page, encoding="utf-8")
    write_text(output / f"check-{options.format_name}.md", f"{table}\n")
    return path, table


def _check_options(adapter: TracingAdapter, options: Options) -> None:
    """A `UserError` where a model has no panoptic map for what is asked."""
    asked = "--format web" if options.format_name == "web" else f"--precision {options.precision}"
    if options.format_name != "web" and options.precision == "float32":
        return
    if "panoptic_seg" not in adapter.outputs:
        raise UserError(
            f"{asked} goes by the panoptic map: MODEL.META_ARCHITECTURE has to be PanopticDETR or "
            "a class of yours that inherits from it."
        )


def _longest(picture: np.ndarray) -> int:
    return max(picture.shape[:2])


def _example(picture: np.ndarray, options: Options) -> torch.Tensor:
    image = torch.from_numpy(picture.transpose(2, 0, 1).copy())
    batch = image.expand(options.batch_size, -1, -1, -1).contiguous()
    return batch.float() if options.floats else batch


class DisagreementError(UserError):
    """An exported model gives something else than the model.

    Attributes:
        table: of the check.
    """

    def __init__(self, sentence: str, table: str):
        super().__init__(sentence)
        self.table = table


def _sentence(model: torch.nn.Module, options: Options) -> str:
    parts = users_parts(model)
    what = f"{named(parts)} may go by numbers in Python" if parts else "this is a mistake here"
    if options.precision != "float32":
        what = f"{options.precision} is too coarse for it"
    return f"What was exported differs from the model, and is not kept: {what}."
