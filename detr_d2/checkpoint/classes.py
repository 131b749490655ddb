"""Which row of a class head is which class, and how rows pass from one head to another.

A head has one row for each class and a last one for no-object. The official COCO heads have a
row for every number up to the largest category id, used or not ("raw" rows: 91 or 250); a
Detectron2 dataset has contiguous classes. Rows pass by category id between COCO's classes, and
by name to and from all others: never by position, since position means nothing across datasets.
"""

from dataclasses import dataclass

import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from ..classes import classes_of_metadata, normalised

Weights = dict[str, Tensor]
HEAD = ("class_embed.weight", "class_embed.bias")


@dataclass(frozen=True)
class Classes:
    """The classes of a head's rows, no-object not counted.

    Attributes:
        names: None for a raw row that no category uses.
        ids: category ids, None where there is none or it is not known.
    """

    names: tuple[str | None, ...]
    ids: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def unused(self) -> list[int]:
        """The rows that no category uses."""
        return [row for row, name in enumerate(self.names) if name is None]

    @property
    def used(self) -> "Classes":
        """The same without the rows that no category uses."""
        kept = [row for row, name in enumerate(self.names) if name is not None]
        return Classes(tuple(self.names[r] for r in kept), tuple(self.ids[r] for r in kept))


def _coco(things_only: bool) -> Classes:
    categories = [c for c in COCO_CATEGORIES if c["isthing"] or not things_only]
    return Classes(tuple(c["name"] for c in categories), tuple(c["id"] for c in categories))


def _raw(classes: Classes, num_rows: int) -> Classes:
    name_of = dict(zip(classes.ids, classes.names))
    rows = range(num_rows)
    return Classes(
        tuple(name_of.get(row) for row in rows),
        tuple(row if row in name_of else None for row in rows),
    )


COCO_THINGS = _coco(things_only=True)
COCO_PANOPTIC = _coco(things_only=False)
# The official heads: 91 and 250 rows and one for no-object.
COCO_THINGS_RAW = _raw(COCO_THINGS, 91)
COCO_PANOPTIC_RAW = _raw(COCO_PANOPTIC, 250)
_COCO_BY_SIZE = {
    len(classes): classes
    for classes in (COCO_THINGS, COCO_PANOPTIC, COCO_THINGS_RAW, COCO_PANOPTIC_RAW)
}
_RAW_OF = {COCO_THINGS.ids: COCO_THINGS_RAW, COCO_PANOPTIC.ids: COCO_PANOPTIC_RAW}


def coco_classes(num_rows: int) -> Classes | None:
    """COCO's classes of a head of that many rows (no-object counted), where they can be told."""
    return _COCO_BY_SIZE.get(num_rows - 1)


def official_layout(classes: Classes) -> Classes | None:
    """The raw rows that the official code has for COCO's classes; None for other classes."""
    return _RAW_OF.get(tuple(sorted(i for i in classes.ids if i is not None)))


def classes_of_dataset(name: str | None) -> Classes | None:
    """The contiguous classes that the metadata of dataset `name` lists; None if it lists none."""
    metadata = MetadataCatalog.get(name) if name else None
    names = None if metadata is None else metadata.get("thing_classes")
    if metadata is None or not names:
        return None
    id_of = {}
    for kind in ("stuff", "thing"):
        of_kind = metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {}
        id_of.update({row: id_ for id_, row in of_kind.items()})
    return Classes(tuple(names), tuple(id_of.get(row) for row in range(len(names))))


def categories_of_dataset(name: str | None) -> list[dict] | None:
    """What a panoptic JSON has under `categories`, in the order of the contiguous classes.

    None where the dataset's metadata tells no things from stuff, or no ids.
    """
    classes = classes_of_dataset(name)
    kinds = classes_of_metadata(name) if name else None
    if classes is None or None in classes.ids or kinds is None:
        return None
    colors = MetadataCatalog.get(name).get("thing_colors") or ()
    return [
        {"id": id_, "name": class_, "isthing": int(row in kinds.things)}
        | ({"color": [int(c) for c in colors[row]]} if row < len(colors) else {})
        for row, (id_, class_) in enumerate(zip(classes.ids, classes.names))
    ]


def match_rows(source: Classes, target: Classes) -> tuple[str, list[int | None]]:
    """Find for each class of `target` the row of `source`.

    Returns:
        By what they were matched ("category id" or "name"), and the rows, None where there is
        no such class.
    """
    layout = official_layout(source)
    if layout is not None and layout == official_layout(target):
        row_of_id = {id_: row for row, id_ in enumerate(source.ids) if id_ is not None}
        return "category id", [None if id_ is None else row_of_id.get(id_) for id_ in target.ids]
    row_of = {normalised(n): row for row, n in enumerate(source.names) if n is not None}
    rows = [None if n is None else row_of.get(normalised(n)) for n in target.names]
    return "name", rows


def missing_from(source: Classes, target: Classes) -> list[str]:
    """The classes of `target`, by name, that `source` has no row of."""
    _, rows = match_rows(source, target)
    return [n for n, row in zip(target.names, rows) if n is not None and row is None]


def take_rows(source: Weights, rows: list[int | None], initial: Weights) -> Weights:
    """Build a class head out of the rows of another; no-object passes from last to last.

    Args:
        source: class_embed.weight (R + 1, d), class_embed.bias (R + 1,).
        rows: of `source`, for each of the C classes; None keeps the row of `initial`.
        initial: class_embed.weight (C + 1, d), class_embed.bias (C + 1,).

    Returns:
        As `initial`, which is left alone.
    """
    taken = {}
    for name in HEAD:
        head = initial[name].clone()
        to = torch.tensor([r for r, row in enumerate(rows) if row is not None] + [len(rows)])
        from_ = torch.tensor([row for row in rows if row is not None] + [len(source[name]) - 1])
        head[to] = source[name][from_].to(head)
        taken[name] = head
    return taken


def describe_rows(by: str, rows: list[int | None], source: Classes, target: Classes) -> str:
    """Say which row of the class head came from where."""
    fresh = [target.names[r] or str(r) for r, row in enumerate(rows) if row is None]
    if not fresh and by == "category id":
        return f"Class head: all {len(rows)} classes and no-object taken by category id."
    taken = [
        f"{target.names[r]} (row {r} from {row}: {source.names[row]})"
        for r, row in enumerate(rows)
        if row is not None
    ]
    return (
        f"Class head: no-object and {len(taken)} of {len(rows)} classes taken by {by}: "
        f"{', '.join(taken) or 'none'}. Freshly initialised: {', '.join(fresh) or 'none'}."
    )
