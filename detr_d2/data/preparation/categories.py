"""The file that says which labels are of which class."""

from pathlib import Path

from ...errors import UserError
from ..coco_json import make_category_whole, whole
from ..files import read_json
from ..problems import category_problems, raise_first
from .kinds import AS_ANNOTATED, Kinds


def read_categories(path: Path, kinds: Kinds = AS_ANNOTATED) -> list[dict]:
    """Read a JSON list of `{"id": 9, "name": "car", "isthing": 1, "label": 26}`.

    `label` is the value of its pixels in a label map, or a list of several; without one it is the
    id. `color`, [red, green, blue], is optional. Categories under `categories` of an object are as
    good.

    Args:
        kinds: names of things and stuff, whatever the file says of them.
    """
    categories = read_json(path)
    if isinstance(categories, dict):
        categories = categories.get("categories")
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        raise UserError(f'{path} is not a list of categories: write [{{"id": 1, "name": ...}}].')
    for category in categories:
        make_category_whole(category)
        if "label" in category:
            category["label"] = [whole(label) for label in labels_of(category)]
    categories = kinds.fill(categories)
    raise_first(category_problems(categories, str(path)))
    categories = kinds.apply(categories)
    class_of_label: dict[int, str] = {}
    for category in categories:
        for label in labels_of(category):
            if not isinstance(label, int):
                raise UserError(f"{path}: the label {label!r} is not a whole number: correct it.")
            other = class_of_label.setdefault(label, category["name"])
            if other != category["name"]:
                raise UserError(
                    f"{path}: {other} and {category['name']} have the label {label} both: give "
                    "each its own."
                )
    return categories


def labels_of(category: dict) -> list[int]:
    """The values of a category's pixels in a label map."""
    labels = category.get("label", category["id"])
    return labels if isinstance(labels, list) else [labels]
