"""What a converter tells the writer: which images there are, and how each is annotated."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..files import read_text
from ..image_names import ImageNames
from .annotation import Annotation, BadAnnotation


@dataclass(frozen=True)
class Picture:
    """An image to be annotated.

    Attributes:
        file_name: relative to the folder of the images.
        image_id: in the panoptic JSON.
        content: what its converter needs to annotate it.
        listed_size: (height, width) that its annotations are for; None where they do not say it.
    """

    file_name: str
    image_id: int
    content: Any = None
    listed_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Source:
    """
    Attributes:
        image_root: folder of the images; they stay where they are.
        categories: as COCO's panoptic JSON has them.
        annotate: from a picture, its height and its width to its annotation; runs in other
            processes.
        notes: sentences on what was left out or decided before an image was read.
        bad: annotations that cannot be converted, seen before an image was read.
        has_maps: annotations are maps, whose own sizes are compared with the images'.
        as_stored: annotations are for images as they lie in their files, before their EXIF
            orientation turns them.
    """

    image_root: Path
    pictures: list[Picture]
    categories: list[dict]
    annotate: Callable[[Picture, int, int], Annotation]
    notes: tuple[str, ...] = ()
    bad: tuple[BadAnnotation, ...] = ()
    has_maps: bool = False
    as_stored: bool = False

    def only(self, file_names: Iterable[str]) -> "Source":
        """The same with these images alone, in this order, named as `ImageNames` reads it."""
        by_name = {picture.file_name: picture for picture in self.pictures}
        names = ImageNames(self.image_root, [*by_name])
        chosen = [n if n in by_name else names.find(n) for n in dict.fromkeys(file_names)]
        chosen = list(dict.fromkeys(chosen))
        unknown = [name for name in chosen if name not in by_name]
        if unknown:
            raise UserError(
                f"{self.image_root} has no annotated image {unknown[0]}, which the list names: "
                "give file names relative to the folder of the images, one a line."
            )
        return replace(self, pictures=[by_name[name] for name in chosen])

    def first(self, limit: int | None) -> "Source":
        """The same with at most `limit` images; None keeps all."""
        if limit is not None and limit < 1:
            raise UserError(f"--limit {limit} leaves no image: give 1 or more.")
        return replace(self, pictures=self.pictures[:limit])

    def split(self, share: float, seed: int) -> dict[str, "Source"]:
        """Two sources, "train" and "val": `share` of the images, drawn at random, are of val.

        Which ones depends on the seed and on the file names, not on their order.
        """
        if not 0 < share < 1:
            raise UserError(f"{share:g} is no share: give a number between 0 and 1, such as 0.2.")
        names = sorted(picture.file_name for picture in self.pictures)
        count = round(share * len(names))
        if not 0 < count < len(names):
            raise UserError(
                f"A share of {share:g} of {len(names)} images leaves train or val without images: "
                "give another one."
            )
        drawn = np.random.default_rng(seed).permutation(len(names))[:count]
        val = {names[i] for i in drawn}
        return {
            "train": replace(self, pictures=[p for p in self.pictures if p.file_name not in val]),
            # What is bad belongs to no image: it is told of once.
            "val": replace(self, pictures=[p for p in self.pictures if p.file_name in val], bad=()),
        }


def listed_size_of(image: dict) -> tuple[int, int] | None:
    """(height, width) of an image of a COCO JSON; None where it has none, as -1 of VIA."""
    height, width = (image.get(side) for side in ("height", "width"))
    if not isinstance(height, (int, float)) or not isinstance(width, (int, float)):
        return None
    if not (math.isfinite(height) and math.isfinite(width) and min(height, width) >= 1):
        return None
    return int(height), int(width)


def read_list(path: Path, what: str = "a list of images") -> list[str]:
    """The lines of a text file, which is `what`, that are not empty."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        remedy = " Save it in UTF-8." if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(f"{path} cannot be read as {what}: {error}.{remedy}") from error
    return [line.strip() for line in lines if line.strip()]
