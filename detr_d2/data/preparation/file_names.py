"""Which files the images of an annotation are."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ..files import is_url
from ..image_names import ImageNames, other_names
from .source import Picture


def found_pictures(
    pictures: list[Picture], image_root: Path, path: Path
) -> tuple[list[Picture], tuple[str, ...]]:
    """The pictures with the names of files below `image_root`.

    Args:
        path: of the JSON, for errors.

    Returns:
        The pictures; and a sentence where files are found under another name than the listed one.
        A file that is not found keeps its name.
    """
    files = ImageNames(image_root)
    found = [replace(p, file_name=files.find(p.file_name)) for p in pictures]
    other = [(p, f) for p, f in zip(pictures, found) if p.file_name != f.file_name]
    meant = defaultdict(list)
    for picture in found:
        meant[picture.file_name].append(picture.image_id)
    for _, file in other:
        if len(meant[file.file_name]) > 1:
            raise UserError(
                f"{path}: images {' and '.join(map(str, meant[file.file_name][:2]))} would both be "
                f"the file {file.file_name}: write names relative to {image_root}."
            )
    for picture in found:
        if is_url(picture.file_name):
            raise UserError(
                f"{path}: image {picture.image_id} is a URL, {picture.file_name}: download the "
                "images into one folder, and give it as the folder of the images."
            )
    if not other:
        return found, ()
    names = [(listed.file_name, file.file_name) for listed, file in other]
    return found, (other_names(names, len(found)),)


def check_one_image_a_name(file_names: list[str], what: str) -> None:
    """A `UserError` where two images differ in their suffix alone, and `what` is named as both."""
    known: dict[str, str] = {}
    for name in file_names:
        stem = str(PurePosixPath(name).with_suffix(""))
        other = known.setdefault(stem, name)
        if other != name:
            raise UserError(
                f"{other} and {name} would both have the {what} of {stem}: give the images a "
                "folder of their own, and each another name."
            )
