"""Checkpoints of a training in its folder, of which at least one is always whole."""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..data.files import written_beside
from ..errors import UserError

_NUMBERED = re.compile(r"model_(\d+)\.pth")


class DamagedFile(UserError):
    """A file of weights that cannot be read."""


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """In the place of `path` once all of it is on the disk; a file there before stays till then."""
    with written_beside(path) as unfinished, open(unfinished, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def check_whole(path: Path) -> None:
    """A `DamagedFile` where a checkpoint is not as it was written: its parts have checksums, which
    `torch.load` does not look at."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise DamagedFile(f"{path} is damaged ({error}).") from error
    if damaged:
        raise DamagedFile(f"{path} is damaged: {damaged} in it has another checksum.")


def checkpoints_of(last: str) -> list[Path]:
    """The file named, and the numbered ones of its folder before it, the latest first."""
    last_file = Path(last)
    numbers = {
        file: int(found[1])
        for file in last_file.parent.glob("model_*.pth")
        if (found := _NUMBERED.fullmatch(file.name)) and file != last_file
    }
    found = _NUMBERED.fullmatch(last_file.name)
    limit = int(found[1]) if found else float("inf")
    before = [file for file, number in numbers.items() if number < limit]
    return [last_file, *sorted(before, key=numbers.__getitem__, reverse=True)]
