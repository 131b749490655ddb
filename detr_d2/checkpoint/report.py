"""What of a checkpoint and a model did not fit together, as one table."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tabulate import tabulate
from torch import Tensor

_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Fit:
    """How weights fit a model.

    Attributes:
        weights: those to be loaded.
        missing: names in the model alone: they keep their initial values.
        unexpected: names in the checkpoint alone: they are not used.
        wrong_shape: (name, shape in the checkpoint, shape in the model): not used.
    """

    weights: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    wrong_shape: list[tuple[str, tuple[int, ...], tuple[int, ...]]]


def fit(weights: dict[str, Tensor], model: dict[str, Tensor]) -> Fit:
    """Compare the weights of a checkpoint with the state dict of a model, by name and shape."""
    fitting, wrong_shape = {}, []
    for name, tensor in weights.items():
        if name not in model:
            continue
        if tensor.shape == model[name].shape:
            fitting[name] = tensor
        else:
            wrong_shape.append((name, tuple(tensor.shape), tuple(model[name].shape)))
    # How many batches a norm has seen is no weight, and frozen norms do not have it.
    missing, unexpected = (
        [name for name in names if name not in others and not name.endswith(_COUNTER)]
        for names, others in ((model, weights), (weights, model))
    )
    return Fit(fitting, missing, unexpected, wrong_shape)


def table(fitted: Fit, of_checkpoint: Collection[str], of_model: Collection[str]) -> str:
    """The differences as a table, a row for each group of like names; "" where there are none.

    Args:
        of_checkpoint, of_model: all names, so that a module which is missing as a whole takes
            one row.
    """
    rows = [("missing: initial value", *row) for row in _groups(fitted.missing, of_model)]
    rows += [
        ("wrong shape: not loaded", name, 1, f"{theirs}, model: {ours}")
        for name, theirs, ours in fitted.wrong_shape
    ]
    rows += [("unexpected: not used", *row) for row in _groups(fitted.unexpected, of_checkpoint)]
    if not rows:
        return ""
    return tabulate(rows, headers=("problem", "name", "tensors", "shape"), tablefmt="pipe")


def _groups(names: list[str], universe: Collection[str]) -> list[tuple[str, int, str]]:
    """(label, number of names, "") of each group: whole modules, or names that differ in digits."""
    prefixes_of_others = {
        prefix for name in set(universe) - set(names) for prefix in _prefixes(name)
    }
    labels: Counter[str] = Counter()
    for name in names:
        whole = next((p for p in _prefixes(name) if p not in prefixes_of_others), None)
        label = f"{whole}.*" if whole and whole != name else name
        labels[re.sub(r"\d+", "*", label)] += 1
    return [(label, count, "") for label, count in labels.items()]


def _prefixes(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
