"""The file that says which labels are of which class."""

from pathlib import Path

from ...errors import UserError
from ..files import read_json
from ..problems import category_problems, raise_first


def read_categories(path: Path) -> list[dict]:
    """Read a JSON list of `{"id": 9, "name": "car", "isthing": 1, "label": 26}`.

    `label` is the value of its pixels in a label map, or a list of several; without one it is the
    id. `color`, [red, green, blue], is optional.
    """
    categories = read_json(path)
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        raise UserError(f'{path} is not a list of categories: write [{{"id": 1, "name": ...}}].')
    raise_first(category_problems(categories, str(path)))
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
