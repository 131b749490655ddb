"""The class head in this project's layout and in the official one.

Contiguous rows and raw ones hold the same classes, so that either becomes the other without
loss: raw rows that no category uses are kept beside contiguous ones, and where there are none to
put back, rows that never win are put in their place.
"""

from typing import Any

import torch
from torch import Tensor

from .classes import HEAD, Classes, match_rows, official_layout, take_rows

Weights = dict[str, Tensor]
# Logit of a class that does not exist: its probability is exactly 0 in single precision, and
# the number itself is exact in half precision.
_NEVER = -10000.0


def to_contiguous(weights: Weights, classes: Classes) -> tuple[Weights, Classes, dict[str, Any]]:
    """Take the rows that no category uses out of the class head.

    Returns:
        The weights, the classes, and the rows taken out ({} if none), for `restore_unused`.
    """
    unused = classes.unused
    if not unused:
        return weights, classes, {}
    used = [row for row in range(len(classes) + 1) if row not in unused]  # with no-object
    taken: dict[str, Any] = {name: weights[name][unused] for name in HEAD}
    weights = weights | {name: weights[name][used] for name in HEAD}
    return weights, classes.used, taken | {"rows": unused}


def restore_unused(
    weights: Weights, classes: Classes, taken: dict[str, Any]
) -> tuple[Weights, Classes]:
    """The inverse of `to_contiguous`."""
    unused = taken["rows"]
    num_rows = len(classes) + 1 + len(unused)
    used = [row for row in range(num_rows) if row not in unused]
    restored = {}
    for name in HEAD:
        head = weights[name].new_empty(num_rows, *weights[name].shape[1:])
        head[used], head[unused] = weights[name], taken[name].to(head)
        restored[name] = head
    class_names: list[str | None] = [None] * (num_rows - 1)
    ids: list[int | None] = [None] * (num_rows - 1)
    for row, class_name, id_ in zip(used, classes.names, classes.ids):
        class_names[row], ids[row] = class_name, id_
    return weights | restored, Classes(tuple(class_names), tuple(ids))


def without_made_up(weights: Weights, classes: Classes) -> tuple[Weights, Classes]:
    """Take out the rows that `to_official` puts in, so that what it made can be undone."""
    contiguous, used, taken = to_contiguous(weights, classes)
    if taken and taken[HEAD[0]].eq(0).all() and taken[HEAD[1]].eq(_NEVER).all():
        return contiguous, used
    return weights, classes


def to_official(weights: Weights, classes: Classes) -> tuple[Weights, Classes]:
    """Bring the head of a COCO model into the official raw rows; others stay as they are."""
    layout = official_layout(classes)
    if layout is None or classes.unused:
        return weights, classes
    weight, bias = (weights[name] for name in HEAD)
    never = {
        HEAD[0]: weight.new_zeros(len(layout) + 1, weight.shape[1]),
        HEAD[1]: torch.full((len(layout) + 1,), _NEVER, dtype=bias.dtype),
    }
    _, rows = match_rows(classes, layout)
    return weights | take_rows({name: weights[name] for name in HEAD}, rows, never), layout
