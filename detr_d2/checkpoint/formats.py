"""Whose checkpoint it is, told by its content, and what it says in this project's terms."""

import copy
import os
from argparse import Namespace
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import files, names
from .classes import HEAD, Classes, coco_classes
from .huggingface import classes_of_config, is_dilated
from .layout import restore_unused, without_made_up

# Under this key, this project's checkpoints say what their weights do not.
ABOUT = "detr_d2"
# Under this key, converted ones keep the rows of the class head that no category uses.
UNUSED_ROWS = "unused_class_rows"


@dataclass(frozen=True)
class About:
    """What the weights of a model do not say of it; None where it is not known.

    Attributes:
        dilation: Res5 is dilated instead of strided (DC5).
        stride_in_1x1: where the blocks of a ResNet of 50 layers or more have their stride, in the
            first convolution, as MSRA's, or in the 3x3 one, as torchvision's.
        num_heads: M, of the transformer's attention.
        categories: of the dataset, as COCO's panoptic JSON has them, in the order of the contiguous
            classes. With them, the model can be used where the dataset is not at hand.
    """

    dilation: bool | None = None
    num_heads: int | None = None
    categories: list[dict] | None = None
    stride_in_1x1: bool | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of any format.

    Attributes:
        format: whose it is, in words.
        weights: by this project's names where they are known, else by their own. The class
            head has the rows of the file.
        unknown: the names that are their own.
        classes: of the class head's rows, None where they are not known.
        rest: what else the file holds, by its keys.
    """

    format: str
    weights: dict[str, Tensor]
    unknown: list[str]
    classes: Classes | None
    about: About = About()
    rest: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint of any format that the project knows.

    Args:
        path: a file or URL, or a Hugging Face folder.

    Raises:
        UserError: where it cannot be read or holds no weights.
    """
    path = files.weights_file(path)
    content = files.read(path)
    weights, rest = _weights_of(content, path)
    if any("class_labels_classifier." in name for name in weights):
        return _huggingface(weights, files.read_config(path))
    plain = names.strip_prefix(weights, "detr.")
    if any(name.startswith("backbone.0.") for name in plain):
        return _official(plain, rest)
    if "layer1.0.conv1.weight" in weights:
        weights, unknown = names.rename(weights, names.TORCHVISION)
        about = About(stride_in_1x1=False)
        return Checkpoint("torchvision ResNet", weights, unknown, None, about, rest)
    if any(name.startswith(("backbone.", "transformer.", "class_embed.")) for name in weights):
        return _of_this_project(weights, rest)
    # Detectron2's own backbones have the names of the backbone module.
    weights = {f"backbone.{name}": tensor for name, tensor in weights.items()}
    return Checkpoint("Detectron2 backbone", weights, [], None, rest=rest)


def _weights_of(content: dict, path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    rest = dict(content)
    weights = rest.pop("model", None)
    if not isinstance(weights, dict):
        weights, rest = content, {}
    weights = {name: _tensor(value) for name, value in weights.items()}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(
                f"{path} is no checkpoint that the project knows: under {name!r} it holds a "
                f"{type(tensor).__name__} where a tensor was expected."
            )
    if not weights:
        raise UserError(f"{path} holds no weights: name another file.")
    if all(name.startswith("module.") for name in weights):  # DistributedDataParallel's
        weights = names.strip_prefix(weights, "module.")
    return weights, rest


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _huggingface(weights: dict[str, Tensor], config: dict) -> Checkpoint:
    weights = names.strip_prefix(weights, "detr.")
    weights, _ = names.rename(weights, names.HUGGINGFACE_IN_MEMORY)
    weights, unknown = names.rename(weights, names.HUGGINGFACE_ANY)
    weights = names.pack_attention(weights)
    classes = classes_of_config(config, _num_rows(weights))
    about = About(is_dilated(config) if config else None, config.get("encoder_attention_heads"))
    return Checkpoint("Hugging Face DETR", weights, unknown, classes, about)


def _official(weights: dict[str, Tensor], rest: dict[str, Any]) -> Checkpoint:
    weights, unknown = names.rename(weights, names.OFFICIAL)
    args = rest.get("args")
    if isinstance(args, Namespace):
        about = About(getattr(args, "dilation", None), getattr(args, "nheads", None))
    else:
        about = _about(rest)  # written by `convert`
    classes = _classes(weights, rest)
    if classes is not None:
        weights, classes = without_made_up(weights, classes)
    return Checkpoint("official DETR", weights, unknown, classes, about, rest)


def _of_this_project(weights: dict[str, Tensor], rest: dict[str, Any]) -> Checkpoint:
    classes = _classes(weights, rest)
    if classes is not None and isinstance(rest.get(UNUSED_ROWS), dict):
        weights, classes = restore_unused(weights, classes, rest[UNUSED_ROWS])
    return Checkpoint("detr_d2", weights, [], classes, _about(rest), rest)


def _num_rows(weights: dict[str, Tensor]) -> int:
    return len(weights[HEAD[1]]) if HEAD[1] in weights else 0


def _recorded(rest: dict[str, Any]) -> dict[str, Any]:
    recorded = rest.get(ABOUT)
    return recorded if isinstance(recorded, dict) else {}


def _about(rest: dict[str, Any]) -> About:
    recorded = _recorded(rest)
    categories = recorded.get("categories")
    if not isinstance(categories, list):
        categories = None
    return About(recorded.get("dilation"), recorded.get("num_heads"), categories)


def _classes(weights: dict[str, Tensor], rest: dict[str, Any]) -> Classes | None:
    """The classes that the file records; else COCO's, where the number of rows is COCO's."""
    num_rows = _num_rows(weights)
    recorded = _recorded(rest)
    class_names: Any = recorded.get("class_names")
    ids: Any = recorded.get("category_ids")
    if (
        _lists(class_names, str)
        and _lists(ids, int)
        and len(class_names) == len(ids) == num_rows - 1
    ):
        return Classes(tuple(class_names), tuple(ids))
    return coco_classes(num_rows)


def _lists(values: Any, of: type) -> bool:
    return isinstance(values, list) and all(v is None or isinstance(v, of) for v in values)


def recorded_categories(path: str) -> list[dict] | None:
    """See `About.categories`; None where the file does not say it, or is none.

    A file that stays as it is is read once, however often it is asked.
    """
    try:
        file = files.weights_file(path)
        written = os.stat(file)
        categories = _categories_of(file, written.st_mtime_ns, written.st_size)
    except UserError:
        return None
    return copy.deepcopy(categories)


@cache
def _categories_of(file: str, *written: int) -> list[dict] | None:
    return read_checkpoint(file).about.categories


def record(classes: Classes | None, about: About) -> dict[str, Any]:
    """What a checkpoint of this project says of its model, under the key `ABOUT`."""
    recorded: dict[str, Any] = {"dilation": about.dilation, "num_heads": about.num_heads}
    if classes is not None:
        recorded |= {"class_names": list(classes.names), "category_ids": list(classes.ids)}
    if about.categories is not None:
        recorded["categories"] = about.categories
    return recorded
