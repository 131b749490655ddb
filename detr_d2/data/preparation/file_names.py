r"""The file that an annotation tool meant: with \ for /, from another machine, in another case."""

import re
from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ..images import find_image_files
from .source import Picture

# createPanopticImgs.py of Cityscapes names aachen_1_gtFine_leftImg8bit.png, and the image is
# aachen/aachen_1_leftImg8bit.png.
_CITYSCAPES = re.compile(r"_gt(fine|coarse)(?=_leftimg8bit\.png$)")


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
    files = _Files(image_root)
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
        if "://" in picture.file_name:
            raise UserError(
                f"{path}: image {picture.image_id} is a URL, {picture.file_name}: download the "
                "images into one folder, and give it as the folder of the images."
            )
    if not other:
        return found, ()
    listed, file = other[0]
    return found, (
        f"{len(other)} of {len(found)} images are found under other names, such as "
        f"{file.file_name} for {listed.file_name}.",
    )


class _Files:
    """The images below a folder; it is searched when a name is not found at once."""

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str) -> str:
        """The name of a file below the folder, relative to it; `name` where none is meant."""
        if _is_inside(name) and (self.root / name).is_file():
            return name
        parts = PurePosixPath(name.replace("\\", "/").casefold()).parts
        for first in range(len(parts)):  # the whole path, then what is left of it from the end
            matches = self._by_path.get("/".join(parts[first:]), [])
            if len(matches) == 1:
                return matches[0]
        last = parts[-1] if parts else ""
        matches = self._by_name.get(last) or self._by_name.get(_CITYSCAPES.sub("", last), [])
        return matches[0] if len(matches) == 1 else name

    @cached_property
    def _names(self) -> list[str]:
        return find_image_files(self.root) if self.root.is_dir() else []

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _grouped(self._names, str)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(name).name)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def _grouped(names: list[str], key) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[key(name).casefold()].append(name)
    return groups
