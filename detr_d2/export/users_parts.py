"""The parts of a model that are the user's own, named where they cannot be recorded."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ..errors import UserError

# Where a model has its parts, and the keys that choose them.
_KEYS = {
    "backbone": "MODEL.BACKBONE.NAME",
    "position_encoding": "MODEL.DETR.POSITION_ENCODING",
    "transformer": "MODEL.DETR.TRANSFORMER",
    "bbox_attention": "MODEL.DETR.ATTENTION_MAP",
    "mask_head": "MODEL.DETR.MASK_HEAD",
}
_KNOWN = ("detr_d2", "detectron2", "torch", "torchvision")


@contextmanager
def naming_users_parts(model: nn.Module, traced: bool = True) -> Iterator[None]:
    """While a model is recorded: name the parts of the user's that cannot be.

    Args:
        traced: what goes by numbers in Python is frozen, and not refused as by torch.export.

    Raises:
        UserError: where a part of the user's fails, or goes by numbers in Python.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always" if traced else "ignore", torch.jit.TracerWarning)
        try:
            yield
        except Exception as error:
            parts = users_parts(model)
            if not parts:
                raise  # it is our mistake
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{named(parts)} cannot be exported ({reason}): use operations on tensors there, "
                "and nothing that goes by their numbers in Python."
            ) from error
    for file, parts in _files(model).items():
        for warning in caught:
            if Path(warning.filename) == file:
                raise UserError(
                    f"{named(parts)} goes by numbers in Python ({file}, line {warning.lineno}), "
                    "so what is recorded would be wrong for other pictures: use operations on "
                    "tensors there."
                )


def users_parts(model: nn.Module) -> dict[str, type]:
    """The classes of parts that are not of this project, by the keys that chose them."""
    parts = {key: type(getattr(model, name, model)) for name, key in _KEYS.items()}
    parts["MODEL.META_ARCHITECTURE"] = type(model)
    return {key: c for key, c in parts.items() if c.__module__.split(".")[0] not in _KNOWN}


def _files(model: nn.Module) -> dict[Path, dict[str, type]]:
    """The source files of the parts."""
    files: dict[Path, dict[str, type]] = {}
    for key, part in users_parts(model).items():
        files.setdefault(Path(inspect.getfile(part)), {})[key] = part
    return files


def named(parts: dict[str, type]) -> str:
    """The keys of parts, each with the name of its class."""
    return ", ".join(f"{key} {part.__name__}" for key, part in parts.items())
