"""Which classes are things, and which names are no classes."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ...errors import UserError

IGNORED = "__ignore__"  # what labelme calls objects that are VOID,
BACKGROUND = "_background_"  # and what is of no class

# What tools call what is no object, in any case and between underscores or not; left out where
# nothing is annotated with it.
_NO_CLASSES = {"background", "bg", "ignore"}


@dataclass(frozen=True)
class Kinds:
    """Names of classes that are stuff, or things, whatever the annotations say.

    Attributes:
        stuff, things: names of classes.
    """

    stuff: tuple[str, ...] = ()
    things: tuple[str, ...] = ()

    def apply(self, categories: list[dict]) -> list[dict]:
        """The categories with their `isthing`; a `UserError` where a name is not theirs."""
        check_names((*self.stuff, *self.things), [str(c.get("name")) for c in categories])
        return self.fill(categories)

    def fill(self, categories: list[dict]) -> list[dict]:
        """As `apply`, of categories that may get other names, and may have no `isthing` yet."""
        both = sorted({*self.stuff} & {*self.things})
        if both:
            raise UserError(f"{both[0]} is in --stuff and in --things: name it in one of them.")
        chosen = {**dict.fromkeys(self.stuff, 0), **dict.fromkeys(self.things, 1)}
        return [
            {**c, "isthing": chosen[str(c.get("name"))]} if str(c.get("name")) in chosen else c
            for c in categories
        ]


AS_ANNOTATED = Kinds()


def check_names(names: Iterable[str], classes: Collection[str]) -> None:
    """A `UserError` of the first of `names` that is not among the names of classes."""
    for name in names:
        if name not in classes:
            raise UserError(f"There is no class {name}: the classes are {', '.join(classes)}.")


def without_pseudo_classes(
    categories: list[dict], annotations: list[dict], kinds: Kinds
) -> tuple[list[dict], dict[int, str], tuple[str, ...]]:
    """Leave out `IGNORED` and `BACKGROUND`, unless `kinds` say that they are classes.

    Returns:
        The other categories, which of the two each left out id is, and a sentence for each.
    """
    left_out = {
        c["id"]: c["name"].casefold()
        for c in categories
        if c["name"].casefold() in (IGNORED, BACKGROUND)
        and c["name"] not in (*kinds.stuff, *kinds.things)
    }
    ids = (a["category_id"] for a in annotations if _is_number(a.get("category_id")))
    counts = Counter(left_out[id_] for id_ in ids if id_ in left_out)
    what = {IGNORED: "VOID", BACKGROUND: "no class has their pixels"}
    notes = [f"{count} objects are {name}: {what[name]}." for name, count in counts.items()]
    return [c for c in categories if c["id"] not in left_out], left_out, tuple(notes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int)


def leave_out_roots(
    categories: list[dict], annotations: list[dict]
) -> tuple[list[dict], tuple[str, ...]]:
    """Leave out what is no class: a name for the others together, or for the background.

    Roboflow lists the project's name as a category, the `supercategory` of the others, which may be
    the name of one of them as well, and labelme `_background_`. Nothing is annotated with them.

    Args:
        annotations: or segments; what has their `category_id`.

    Returns:
        The other categories, and a sentence for each that was left out.
    """
    used = {a["category_id"] for a in annotations if _is_number(a.get("category_id"))}
    kept, notes = [], []
    for category in categories:
        name = category.get("name")
        others = [c for c in categories if c is not category]
        is_root = any(
            c.get("supercategory") == name or (c.get("name") == name and c.get("id") in used)
            for c in others
        )
        is_none = str(name).strip("_ ").casefold() in _NO_CLASSES
        if category.get("id") not in used and (is_root or is_none):
            notes.append(f"No object is a {name} (id {category.get('id')}): left out.")
        else:
            kept.append(category)
    return (kept, tuple(notes)) if kept else (categories, ())
