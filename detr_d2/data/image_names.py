r"""The file that an annotation tool meant: with \ for /, from another machine, in another case."""

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from .images import IMAGE_SUFFIXES, find_image_files, folded

# createPanopticImgs.py of Cityscapes names aachen_1_gtFine_leftImg8bit.png, and the image is
# aachen/aachen_1_leftImg8bit.png.
_CITYSCAPES = re.compile(r"_gt(fine|coarse)(?=_leftimg8bit\.png$)")


class ImageNames:
    """The images below a folder; it is searched when a name is not found at once.

    Args:
        names: those that may be meant, relative to the folder; None for all.
    """

    def __init__(self, root: Path, names: list[str] | None = None):
        self.root = root
        if names is not None:
            self._names = names

    def find(self, name: str) -> str:
        """The name of a file below the folder, relative to it; `name` where none is meant."""
        if _is_inside(name) and (self.root / name).is_file():
            return PurePosixPath(name).as_posix()  # without ./ and //
        spellings = (name, unquote(name), unquote(name.partition("?")[0]))
        for spelling in dict.fromkeys(spellings):  # as it is, and as a URL has it
            parts = PurePosixPath(folded(spelling.strip().replace("\\", "/"))).parts
            if found := self._find_end_of(parts):
                return found
        return name

    def _find_end_of(self, parts: tuple[str, ...]) -> str | None:
        for first in range(len(parts)):  # the whole path, then what is left of it from the end
            matches = self._by_path.get("/".join(parts[first:]), [])
            if len(matches) == 1:
                return matches[0]
        last = parts[-1] if parts else ""
        matches = self._by_name.get(last) or self._by_name.get(_CITYSCAPES.sub("", last), [])
        if not matches and PurePosixPath(last).suffix not in IMAGE_SUFFIXES:
            # As Pascal VOC lists images.
            matches = self._by_stem.get("/".join(parts)) or self._by_last_stem.get(last, [])
        return matches[0] if len(matches) == 1 else None

    @cached_property
    def _names(self) -> list[str]:
        return find_image_files(self.root) if self.root.is_dir() else []

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _grouped(self._names, str)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(name).name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: str(PurePosixPath(name).with_suffix("")))

    @cached_property
    def _by_last_stem(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: PurePosixPath(name).stem)


def other_names(renamed: list[tuple[str, str]], count: int) -> str:
    """The sentence on files that are found under other names than those listed.

    Args:
        renamed: listed name and the file's, of each.
        count: of all files.
    """
    listed, file = renamed[0]
    return (
        f"{len(renamed)} of {count} images are found under other names, such as {file} for "
        f"{listed}."
    )


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def _grouped(names: list[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[folded(key(name))].append(name)
    return groups
