"""Which of a model's classes are taken, and which classes of the dataset they become."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..checkpoint.classes import categories_of_dataset
from ..data.preparation import check_names
from ..errors import UserError

_ENDINGS = ("-other-merged", "-merged", "-other", "-stuff")  # of COCO's panoptic classes
_HEAD = """\
# A class of the model: the class that it becomes, one of yours or a new one. What stands in no line
# is not taken, and its pixels stay VOID. `{to: background, isthing: 0}` makes stuff of things, and
# `{to: sky, score: 0.9}` takes what is at least so sure.
"""


@dataclass(frozen=True)
class ModelClass:
    """A class of the model: contiguous number, id in its dataset, name, kind, colour (RGB)."""

    number: int
    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Taken:
    """What a class of the model becomes.

    Attributes:
        isthing: whether the class that it becomes is one.
        least_score: segments that score below it are not taken.
    """

    category_id: int
    isthing: bool
    least_score: float


@dataclass(frozen=True)
class ClassMap:
    """
    Attributes:
        categories: one's own, as the panoptic JSON has them, and behind them the new ones.
        taken: by contiguous class of the model.
    """

    categories: list[dict]
    taken: dict[int, Taken]


def model_classes(dataset: str) -> list[ModelClass]:
    """The classes of a model, which are those of its dataset, a panoptic one."""
    categories = categories_of_dataset(dataset)
    assert categories is not None, "panoptic data have names, ids and kinds"
    return [
        ModelClass(number, c["id"], c["name"], bool(c["isthing"]), tuple(c["color"]))
        for number, c in enumerate(categories)
    ]


def choose(
    classes: list[ModelClass], names: Iterable[str], stuff: bool, things: bool
) -> list[ModelClass]:
    """The classes that are named, and those of a kind that is taken whole."""
    names = set(names)
    check_names(sorted(names), [c.name for c in classes])
    return [c for c in classes if c.name in names or (things if c.isthing else stuff)]


def proposal(chosen: list[ModelClass], categories: list[dict]) -> str:
    """A YAML to begin with: a class becomes one's own of the same name, or else a new one.

    COCO's names are compared without their endings, such as -merged.
    """
    own = {_plain(category["name"]): category["name"] for category in categories}
    lines = []
    for class_ in chosen:
        name = own.get(_plain(class_.name))
        line = yaml.safe_dump({class_.name: name or class_.name}, allow_unicode=True, width=1000)
        lines.append(f"{line.strip()}  # {'yours' if name else 'new'}\n")
    return _HEAD + "".join(lines)


def _plain(name: str) -> str:
    name = name.casefold()
    ending = next((e for e in _ENDINGS if name.endswith(e)), "")
    return name.removesuffix(ending)


def read_class_file(path: Path) -> dict[str, Any]:
    """The content of a file that `proposal` began."""
    try:
        return parse_classes(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of classes: {error}.") from error


def parse_classes(text: str, where: str) -> dict[str, Any]:
    """As `read_class_file`, of a text that was read already."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not valid YAML ({reason}): correct it.") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{where} maps no class: begin with what --propose prints.")
    return content


def map_classes(
    content: dict[str, Any],
    where: str,
    classes: list[ModelClass],
    categories: list[dict],
    least_score: float = 0.0,
) -> ClassMap:
    """
    Args:
        content: of a class file: from names of the model's classes to names, or to dicts with
            `to`, `score` and `isthing`.
        where: it is from, for errors.
        categories: one's own.
        least_score: of classes that do not say theirs.

    Raises:
        UserError: where a class is not the model's, or stuff would become things.
    """
    by_name = {c.name: c for c in classes}
    for name in content:
        if name not in by_name:
            raise UserError(
                f"{where}: {name} is no class of the model, whose classes are "
                f"{', '.join(by_name)}: correct it."
            )
    rows = {name: _row(value, f"{where}, {name}") for name, value in content.items() if value}
    own = {c["name"]: c for c in categories}
    categories = list(categories)
    for name, row in rows.items():
        if row["to"] not in own:
            new = _new_category(row["to"], rows, by_name, {c["id"] for c in categories})
            own[row["to"]] = new
            categories.append(new)
        target = own[row["to"]]
        if target["isthing"] and not by_name[name].isthing:
            raise UserError(
                f"{where}: {name} is stuff of the model, and {row['to']} is a thing: stuff has no "
                "single objects, so let it become stuff, or leave it out."
            )
        if "isthing" in row and bool(row["isthing"]) != bool(target["isthing"]):
            raise UserError(
                f"{where}, {name}: isthing {row['isthing']} is not what {row['to']} is elsewhere: "
                "leave it out, or say it of all that become it."
            )
    taken = {
        by_name[name].number: Taken(
            own[row["to"]]["id"], bool(own[row["to"]]["isthing"]), row.get("score", least_score)
        )
        for name, row in rows.items()
    }
    return ClassMap(categories, taken)


def _row(value: Any, where: str) -> dict[str, Any]:
    row = value if isinstance(value, dict) else {"to": value}
    unknown = sorted(map(str, row.keys() - {"to", "score", "isthing"}))
    if unknown or not isinstance(row.get("to"), str):
        raise UserError(
            f"{where} is {value!r}: write the name of a class, or {{to: NAME, score: 0.9, "
            "isthing: 0}} with what is needed of it."
        )
    score = row.get("score", 0.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise UserError(f"{where}: the score {score!r} is none: give a number from 0 to 1.")
    if row.get("isthing", 0) not in (0, 1):
        raise UserError(f"{where}: isthing is {row['isthing']!r}: use 0 or 1.")
    return row


def _new_category(name: str, rows: dict, by_name: dict[str, ModelClass], used: set[int]) -> dict:
    """A class that is not among one's own: a thing where all that become it are things.

    It has the id that the first of these has in the model's dataset, where none has it yet.
    """
    parts = [by_name[part] for part, row in rows.items() if row["to"] == name]
    said = [row["isthing"] for row in rows.values() if row["to"] == name and "isthing" in row]
    isthing = said[0] if said else int(all(part.isthing for part in parts))
    id_ = parts[0].id if parts[0].id not in used else max(used) + 1
    return {"id": id_, "name": name, "isthing": int(isthing), "color": list(parts[0].color)}
