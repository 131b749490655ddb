"""From any format into this project's, the official one or Hugging Face's.

Weights keep every bit, in every direction and back, unless half precision is asked for: the class
head's rows that no category uses as well, see `layout`. What is left out (optimiser state, the
arguments of a training) is logged.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..errors import UserError
from . import huggingface, layout, names
from .classes import HEAD
from .formats import ABOUT, UNUSED_ROWS, About, Checkpoint, read_checkpoint, record

logger = logging.getLogger(__name__)

_DEFAULT_NUM_HEADS = 8  # of all published models
_REST_THAT_IS_KEPT = {ABOUT, UNUSED_ROWS}


def convert(source: str, target: str, to: str, half: bool = False, dc5: bool = False) -> None:
    """Convert a checkpoint of DETR or panoptic DETR.

    Args:
        source: a file, URL or Hugging Face folder.
        target: what to write, a file or (huggingface) a folder; it does not exist yet.
        to: a key of `WRITERS`.
        half: write floating-point weights in half precision.
        dc5: the model is dilated, whatever `source` says.

    Raises:
        UserError: where `source` is no DETR, or the other format cannot hold it.
    """
    if os.path.exists(target):
        raise UserError(f"{target} exists: remove it, or choose another name.")
    checkpoint = read_checkpoint(source)
    if HEAD[0] not in checkpoint.weights:
        raise UserError(f"{source} holds a {checkpoint.format}, not a DETR: name another file.")
    _log_what_is_left_out(checkpoint)
    weights = {n: t for n, t in checkpoint.weights.items() if n not in checkpoint.unknown}
    if half:
        weights = _halved(weights)
    about = _completed(checkpoint.about, weights, dc5)
    _write(target, lambda path: WRITERS[to](path, weights, checkpoint.classes, about))


def write_d2(path: Path, weights, classes, about: About) -> None:
    """{"model": state dict}, whose class head has contiguous rows."""
    unused: dict[str, Any] = {}
    if classes is not None:
        weights, classes, unused = layout.to_contiguous(weights, classes)
    content = {"model": weights, ABOUT: record(classes, about)}
    torch.save(content | ({UNUSED_ROWS: unused} if unused else {}), path)


def write_official(path: Path, weights, classes, about: About) -> None:
    """{"model": state dict}, whose class head has raw rows for COCO's classes."""
    if classes is not None:
        weights, classes = layout.to_official(weights, classes)
    panoptic = huggingface.is_panoptic(weights)
    theirs = _renamed(weights, names.OFFICIAL, "the official format")
    if panoptic:
        theirs = names.add_prefix(theirs, "detr.", names.MASK_BRANCH_PREFIXES)
    torch.save({"model": theirs, ABOUT: record(classes, about)}, path)


def write_huggingface(path: Path, weights, classes, about: About) -> None:
    """A folder of config.json and model.safetensors, whose class head has the rows it had."""
    config = huggingface.config_of(weights, classes, about.dilation, about.num_heads)
    table = names.HUGGINGFACE_TIMM if config["use_timm_backbone"] else names.HUGGINGFACE
    panoptic = huggingface.is_panoptic(weights)
    theirs = _renamed(names.unpack_attention(weights), table, "Hugging Face's format")
    if panoptic:
        theirs = names.add_prefix(theirs, "detr.", names.MASK_BRANCH_PREFIXES)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # A tensor must own its memory; transformers asks which framework wrote the file.
    owned = {name: tensor.clone().contiguous() for name, tensor in theirs.items()}
    save_file(owned, path / "model.safetensors", metadata={"format": "pt"})


WRITERS: dict[str, Callable] = {
    "d2": write_d2,
    "official": write_official,
    "huggingface": write_huggingface,
}


def _renamed(weights: names.Weights, table: names.Table, format: str) -> names.Weights:
    renamed, unknown = names.rename_back(weights, table)
    if unknown:
        raise UserError(
            f"{format} has no name for {len(unknown)} weights, {unknown[0]} among them: the model "
            "has parts that it does not know."
        )
    return renamed


def _completed(about: About, weights: names.Weights, dc5: bool) -> About:
    """Fill in what is not known, and say so."""
    dilation, num_heads = about.dilation, about.num_heads or huggingface.num_heads_of(weights)
    if dc5:
        dilation = True
    elif dilation is None:
        dilation = False
        logger.info("Nothing says whether the model is a DC5: taken for none. If so, give --dc5.")
    if num_heads is None:
        num_heads = _DEFAULT_NUM_HEADS
        logger.info("Nothing says how many attention heads the model has: taken for %d.", num_heads)
    return replace(about, dilation=dilation, num_heads=num_heads)


def _halved(weights: names.Weights) -> names.Weights:
    halved = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    for name, tensor in halved.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} has numbers too large for half precision: leave out --half.")
    return halved


def _log_what_is_left_out(checkpoint: Checkpoint) -> None:
    logger.info("Read as %s, %d weights.", checkpoint.format, len(checkpoint.weights))
    if rest := sorted(checkpoint.rest.keys() - _REST_THAT_IS_KEPT):
        logger.info("Left out, beside the weights: %s.", ", ".join(rest))
    if checkpoint.unknown:
        logger.warning("Left out, with unknown names: %s.", ", ".join(checkpoint.unknown))


def _write(target: str, write: Callable[[Path], None]) -> None:
    """Write beside `target`, then rename: `target` is whole or not there at all."""
    parent = Path(target).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".convert-") as folder:
        part = Path(folder) / "part"
        write(part)
        part.rename(target)
    logger.info("Wrote %s.", target)
