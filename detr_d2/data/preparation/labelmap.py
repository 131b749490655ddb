"""CVAT's `labelmap.txt`, which says what colour the pixels of each class have in its masks."""

from pathlib import Path

from ...errors import UserError
from .source import read_list

BACKGROUND = "background"  # what CVAT calls the pixels of no class


def read_labelmap(path: Path) -> dict[str, int]:
    """Names and colours, R + 256 G + 65536 B.

    A line is `name:red,green,blue:parts:actions`; those that begin with # are comments.
    """
    colours: dict[str, int] = {}
    for line in read_list(path, "CVAT's labelmap.txt"):
        if line.startswith("#"):
            continue
        name, _, rest = (part.strip() for part in line.partition(":"))
        colour = _packed(rest.partition(":")[0])
        if not name or colour is None:
            raise UserError(f"{path}: {line!r} is not of the form name:red,green,blue::.")
        if name in colours or colour in colours.values():
            raise UserError(f"{path}: the name or the colour of {line!r} is there twice.")
        colours[name] = colour
    if not colours:
        raise UserError(f"{path} has no class: give CVAT's labelmap.txt.")
    return colours


def with_colours(categories: list[dict], colours: dict[str, int], labelmap: Path) -> list[dict]:
    """The categories with the colour of their name as their label."""
    for category in categories:
        if category["name"] not in colours:
            raise UserError(
                f"{labelmap} has no colour of {category['name']}: its classes are "
                f"{', '.join(colours)}."
            )
    return [{**c, "label": colours[c["name"]]} for c in categories]


def categories_of(colours: dict[str, int]) -> list[dict]:
    """All of its classes but the background, as things."""
    names = [name for name in colours if name.casefold() != BACKGROUND]
    return [{"id": n, "name": name, "isthing": 1} for n, name in enumerate(names, 1)]


def _packed(text: str) -> int | None:
    try:
        red, green, blue = (int(x) for x in text.split(","))
    except ValueError:
        return None
    return red + 256 * green + 65536 * blue if {red, green, blue} <= {*range(256)} else None
