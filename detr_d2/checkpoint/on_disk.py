"""Checkpoints of a training in its folder, of which at least one is always whole."""

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..data.files import written_beside
from ..errors import UserError

_NUMBERED = re.compile(r"model_(\d+)\.pth")


class DamagedFile(UserError):
    """A file of weights that cannot be read."""


def write_on_disk(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """In the place of `path` once all of it is on the disk; a file there before stays till then."""
    with written_beside(path) as unfinished, open(unfinished, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name as well
    finally:
        os.close(folder)


def is_of_full_disk(error: RuntimeError) -> bool:
    """PyTorch's own error, in place of the system's, where less was written than it wanted."""
    return "unexpected pos" in str(error) or "PytorchStreamWriter" in str(error)


def remove_unfinished(folder: Path) -> None:
    """What trainings left that were killed while they wrote: checkpoints, results."""
    for file in folder.rglob(".*.unfinished-*"):
        file.unlink(missing_ok=True)


def remove_older(folder: Path, keep: int) -> None:
    """All numbered checkpoints of a training but the last `keep`."""
    for file in checkpoints_of(f"{folder}/")[1 + keep :]:
        file.unlink(missing_ok=True)


def check_whole(path: Path) -> None:
    """A `DamagedFile` where a checkpoint is not as it was written: its parts have checksums, which
    `torch.load` does not look at."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # of many kinds, by the bit that is wrong
        raise DamagedFile(f"{path} is damaged ({error}).") from error
    if damaged:
        raise DamagedFile(f"{path} is damaged: {damaged} in it has another checksum.")


def checkpoints_of(last: str) -> list[Path]:
    """The file named, and the numbered ones of its folder before it, the latest first.

    Args:
        last: a path; one that ends in "/" names none, and all numbered ones are given.
    """
    last_file = Path(last) if os.path.basename(last) else Path(last, "model_final.pth")
    numbers = {
        file: int(found[1])
        for file in last_file.parent.glob("model_*.pth")
        if (found := _NUMBERED.fullmatch(file.name)) and file != last_file
    }
    found = _NUMBERED.fullmatch(last_file.name)
    limit = int(found[1]) if found else float("inf")
    before = [file for file, number in numbers.items() if number < limit]
    return [last_file, *sorted(before, key=numbers.__getitem__, reverse=True)]
