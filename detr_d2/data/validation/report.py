"""All of it: read a dataset once, say what is wrong, put right what can be."""

import os
import shutil
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ...errors import UserError
from ..coco_json import read_coco
from ..depth import ALL_GREY_LEVELS, GreyLevels, low_contrast
from ..doubts import doubts
from ..files import write_json
from ..problems import (
    FORMAT,
    REPEATED,
    Problem,
    category_problems,
    json_problems,
    list_problems,
    raise_first,
)
from .inspection import Inspection, digest_images, inspect_images
from .names import with_names_on_disk
from .overlap import overlap_problems, repetition_problems
from .statistics import config_lines, statistics


@dataclass(frozen=True)
class Dataset:
    """Paths of a panoptic dataset."""

    image_root: str
    panoptic_root: str
    panoptic_json: str


@dataclass(frozen=True)
class Report:
    """
    Attributes:
        content: of the JSON.
        problems: all that was found.
        inspections: what each image and PNG has in it.
        levels: of images of 16 bits.
    """

    dataset: Dataset
    content: dict
    problems: list[Problem]
    inspections: list[Inspection]
    levels: GreyLevels = ALL_GREY_LEVELS

    @property
    def is_wrong(self) -> bool:
        """Whether training would crash, or an evaluation be false."""
        return any(problem.wrong for problem in self.problems)

    def text(self, examples: int) -> str:
        """The report in words, with at most so many sentences of a kind."""
        paths = (self.dataset.image_root, self.dataset.panoptic_root, self.dataset.panoptic_json)
        categories = self.content["categories"]
        return "\n\n".join(
            [
                _text_of_problems(self.problems, examples),
                statistics(self.inspections, categories),
                config_lines(self.inspections, categories, paths, self.levels),
            ]
        )


def validate(
    dataset: Dataset,
    against: tuple[str, str] | None,
    workers: int,
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> Report:
    """Read everything once.

    Args:
        against: folder of the images and JSON of the other split.
        levels: of images of 16 bits, see `read_image`.

    Raises:
        UserError: where the JSON itself, or its categories, cannot be used.
    """
    content = read_coco(dataset.panoptic_json)
    path = dataset.panoptic_json
    raise_first(list_problems(content, path))
    raise_first(category_problems(content.get("categories"), path))
    roots = dataset.image_root, dataset.panoptic_root
    named, problems = with_names_on_disk(content, *roots, path)
    problems += json_problems(named, path)
    inspections = inspect_images(named, *roots, workers, levels)
    problems += [problem for inspection in inspections for problem in inspection.problems]
    said = doubts(content["categories"], [i.annotation for i in inspections])
    said += _low_contrast(inspections, levels)
    problems += [Problem("Doubtful", f"{path}: {doubt}", wrong=False) for doubt in said]
    problems += repetition_problems(inspections)
    if against is not None:
        other_root, other_json = against
        other = read_coco(other_json)
        raise_first(json_problems(other, other_json))
        digests = digest_images(other, other_root, workers, levels)
        problems += overlap_problems(inspections, digests, other_json)
    return Report(dataset, named, problems, inspections, levels)


def _low_contrast(inspections: list[Inspection], levels: GreyLevels) -> list[str]:
    values = [i.values for i in inspections if i.values is not None]
    if not values:
        return []
    said = low_contrast(min(v[0] for v in values), max(v[1] for v in values), levels)
    return [f"{len(values)} images have {said}"] if said else []


def fix(report: Report) -> tuple[Path, int]:
    """Rewrite the JSON with what images and PNGs say; the old one is kept beside it.

    Returns:
        The copy of the old JSON, and how many problems are gone.

    Raises:
        UserError: where entries cannot be told apart by their ids.
    """
    for problem in report.problems:
        if problem.kind in (FORMAT, REPEATED):
            raise UserError(f"Nothing was fixed, first put this right: {problem.sentence}")
    path = Path(report.dataset.panoptic_json)
    _refuse_to_empty(report)
    images = {i.image["id"]: i.image for i in report.inspections}
    annotations = {i.annotation["image_id"]: i.annotation for i in report.inspections}
    content = {
        **report.content,
        "images": [images.get(image.get("id"), image) for image in report.content["images"]],
        "annotations": [
            annotations.get(a.get("image_id"), a) for a in report.content["annotations"]
        ],
    }
    copy = _free_name(path)
    shutil.copy2(path, copy)
    write_json(path, content)
    return copy, sum(problem.can_be_fixed for problem in report.problems)


def _refuse_to_empty(report: Report) -> None:
    """An image that would lose all of its segments has another fault than a few lost ones."""
    left = {i.annotation["image_id"]: i.annotation["segments_info"] for i in report.inspections}
    for annotation in report.content["annotations"]:
        image_id = annotation.get("image_id")
        if annotation.get("segments_info") and left.get(image_id) == []:
            raise UserError(
                f"Nothing was fixed: image {image_id} would lose all of its segments, since its "
                f"PNG {annotation['file_name']} has none of them. Put that file right first."
            )


def _free_name(path: Path) -> Path:
    """`path`.before-fix, with a number where that is taken."""
    copy, number = path.with_name(f"{path.name}.before-fix"), 2
    while os.path.lexists(copy):
        copy, number = path.with_name(f"{path.name}.before-fix-{number}"), number + 1
    return copy


def _text_of_problems(problems: list[Problem], examples: int) -> str:
    wrong = sum(problem.wrong for problem in problems)
    lines = []
    ordered = sorted(problems, key=lambda p: (not p.wrong, p.kind))
    for (is_wrong, kind), some in groupby(ordered, key=lambda p: (p.wrong, p.kind)):
        some = list(some)
        title = f"{kind}: {len(some)}" if is_wrong else f"{kind} (not wrong): {len(some)}"
        if any(problem.can_be_fixed for problem in some):
            title += f"; --fix puts {sum(p.can_be_fixed for p in some)} right"
        lines.append(title)
        lines += [f"  {problem.sentence}" for problem in some[:examples]]
        if len(some) > examples:
            lines.append(f"  ... and {len(some) - examples} more (--examples N shows more)")
    verdict = "Nothing is wrong." if not wrong else f"Problems: {wrong}, see above."
    return "\n".join([*lines, verdict])
