"""Augmentations from the configuration: names, and arguments."""

from typing import Any

from detectron2.data import transforms as T

from ..errors import UserError
from ..part_registry import PartRegistry

KEY = "INPUT.AUGMENTATIONS"

AUGMENTATION_REGISTRY = PartRegistry(
    "AUGMENTATION",
    key=KEY,
    needs=("get_transform",),
    contract="""
Classes of `detectron2.data.transforms.Augmentation`, built as `entry(**arguments)` from
`INPUT.AUGMENTATIONS`. What `get_transform` asks for by the names of its arguments are `image`
(H, W, 3) uint8 and `sem_seg` (H, W) int64, the contiguous class of each pixel, -1 at VOID; the
transform that it gives must have `apply_segmentation`, by nearest neighbour, where it moves pixels.
""",
)


def build_named(entries: list) -> list[T.Augmentation]:
    """Build `INPUT.AUGMENTATIONS`.

    Args:
        entries: [name, {argument: value}] each; a value may be such an entry itself, as that of
            `RandomApply`.

    Raises:
        UserError: where a name is unknown or its arguments are not what it takes.
    """
    return [_build(entry) for entry in entries]


def _build(entry: Any) -> T.Augmentation:
    if isinstance(entry, str):
        entry = [entry, {}]
    if not _is_entry(entry):
        raise UserError(f"{KEY} has {entry!r}: write [name, {{argument: value, ...}}].")
    name, arguments = entry
    arguments = {k: _build(v) if _is_entry(v) else v for k, v in arguments.items()}
    try:
        return _class_of(name)(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{KEY}: {name} does not take {arguments}: {error}.") from error


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
    )


def _class_of(name: str) -> type:
    known = getattr(T, name, None)
    if name in AUGMENTATION_REGISTRY or not isinstance(known, type):
        return AUGMENTATION_REGISTRY.get(name)
    if not issubclass(known, T.Augmentation | T.Transform):
        raise UserError(f"{KEY}: {name} is no augmentation.")
    return known
