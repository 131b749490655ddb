"""Datasets and checkpoints number their classes alike: by name, as the first of them does."""

import logging
from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from ..classes import classes_of_metadata
from ..errors import UserError, some_of
from .registration import register_again

logger = logging.getLogger(__name__)

# Name, and whether it is a thing, where that is known, of each contiguous class.
Classes = list[tuple[str, bool | None]]


def number_classes_alike(names: Sequence[str]) -> None:
    """Let each dataset of `names` have its classes in the order of the first, see `number_like`."""
    first, *others = dict.fromkeys(names)
    wanted = _classes_of(first)
    if wanted is not None:
        number_like(wanted, first, others)


def number_like(wanted: Classes, first: str, names: Sequence[str]) -> None:
    """Let each dataset of `names` have its classes in a given order.

    Files that were written at different times number the same classes differently, and a model
    knows a class by its number. Datasets whose classes have the same names are registered anew,
    with one line that says so.

    Args:
        wanted: the classes in their order.
        first: what has them, in words: the name of a dataset, or "the file FILE".

    Raises:
        UserError: where a dataset has other classes, or a thing is stuff there.
    """
    for name in names:
        found = _classes_of(name)
        if found is None:
            continue
        known = {class_ for class_, kind in found if kind is None}
        expected = [(c, None if c in known or kind is None else kind) for c, kind in wanted]
        if None in dict(wanted).values():
            found = Classes((class_, None) for class_, _ in found)
        if found == expected:
            continue
        if (
            sorted(found, key=str) != sorted(expected, key=str)
            or MetadataCatalog.get(name).get("panoptic_json") is None
        ):
            raise UserError(_difference(first, expected, name, found))
        register_again(name, [class_ for class_, _ in wanted])
        logger.warning(
            "%s numbers the classes differently than %s: they are matched by name.", name, first
        )


def has_classes(name: str, wanted: Classes) -> bool:
    """Whether a panoptic dataset has these classes, in any order."""
    found = _classes_of(name)
    return found is not None and sorted(found, key=str) == sorted(wanted, key=str)


def _classes_of(name: str) -> Classes | None:
    """The contiguous classes of a dataset; None where they are not known, or not yet."""
    names, kinds = MetadataCatalog.get(name).get("thing_classes"), classes_of_metadata(name)
    if names is None:
        return None
    return [
        (class_, None if kinds is None else number in kinds.things)
        for number, class_ in enumerate(names)
    ]


def _difference(first: str, wanted: Classes, name: str, found: Classes) -> str:
    kinds = {True: "a thing", False: "stuff", None: "a class"}
    begin = first.replace("the ", "The ", 1) if first.startswith("the ") else first
    of_first, of_other = dict(wanted), dict(found)
    parts = [
        f"{some_of(only)} only in {where}"
        for only, where in (
            ([c for c in of_first if c not in of_other], first),
            ([c for c in of_other if c not in of_first], name),
        )
        if only
    ]
    parts += [
        f"{c} is {kinds[of_first[c]]} in {first} and {kinds[of_other[c]]} in {name}"
        for c in of_first
        if c in of_other and of_first[c] != of_other[c]
    ]
    if not parts:
        return (
            f"{begin} and {name} number the same classes differently, in the order of their ids: "
            "give the categories the same ids in both."
        )
    return (
        f"{begin} and {name} do not have the same classes ({'; '.join(parts)}): give all of "
        "DATASETS.TRAIN and DATASETS.TEST the same, with tools/prepare_dataset.py panoptic and its "
        "--rename, --drop and --merge, or by converting them in one with --val-share or --list."
    )
