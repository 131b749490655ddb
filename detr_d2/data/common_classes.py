"""Datasets of one configuration number their classes alike: by name, as the first of them does."""

import logging
from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from ..classes import classes_of_metadata
from ..errors import UserError
from .registration import register_again

logger = logging.getLogger(__name__)

_SHOWN = 5  # names of a list, before "and N more"


def number_classes_alike(names: Sequence[str]) -> None:
    """Let each dataset of `names` have its classes in the order of the first.

    Files that were written at different times number the same classes differently, and a model
    knows a class by its number. Datasets whose classes have the same names are registered anew, in
    the order of the first, with one line that says so.

    Raises:
        UserError: where a dataset has other classes than the first, or a thing is stuff there.
    """
    first, *others = dict.fromkeys(names)
    wanted = _classes_of(first)
    for name in others:
        found = _classes_of(name)
        if wanted is None or found is None or found == wanted:
            continue
        if (
            sorted(found) != sorted(wanted)
            or MetadataCatalog.get(name).get("panoptic_json") is None
        ):
            raise UserError(_difference(first, wanted, name, found))
        register_again(name, [class_ for class_, _ in wanted])
        logger.warning(
            "%s numbers the classes differently than %s: they are matched by name.", name, first
        )


def _classes_of(name: str) -> list[tuple[str, bool]] | None:
    """Name, and whether it is a thing, of each contiguous class; None where it is not known."""
    names, kinds = MetadataCatalog.get(name).get("thing_classes"), classes_of_metadata(name)
    if names is None or kinds is None:
        return None
    return [(class_, number in kinds.things) for number, class_ in enumerate(names)]


def _difference(first: str, wanted: list, name: str, found: list) -> str:
    kinds = {True: "a thing", False: "stuff"}
    of_first, of_other = dict(wanted), dict(found)
    parts = [
        f"{_listed(only)} only in {where}"
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
    difference = "; ".join(parts) or "they are in another order"
    return (
        f"Datasets {first} and {name} do not have the same classes ({difference}): give all of "
        "DATASETS.TRAIN and DATASETS.TEST the same, with tools/prepare_dataset.py panoptic."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
