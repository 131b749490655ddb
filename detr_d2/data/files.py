"""Reading and writing the files of a dataset."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from ..errors import UserError

_LEFTOVERS = ("__MACOSX", "@eaDir")  # folders


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path, such as https://..., would be downloaded when it is read."""
    name = os.fspath(path)
    return is_url(name) and not name.startswith("file://")


def read_json(path: str | os.PathLike) -> Any:
    """The content of a JSON file; a `UserError` where there is none."""
    path = os.fspath(path)
    if not PathManager.isfile(path):
        raise UserError(f"{path} does not exist: check the path, or prepare the dataset first.")
    try:
        return json.loads(read_text(PathManager.get_local_path(path)))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no JSON in UTF-8 ({error}): save it in UTF-8.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): write it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: str | os.PathLike) -> str:
    """The text in a file, whatever the locale is: UTF-8, UTF-16 or UTF-32, with a mark or without.

    Windows puts a mark before its text, and PowerShell writes UTF-16.

    Raises:
        OSError, UnicodeDecodeError: where it cannot be read.
    """
    data = Path(path).read_bytes()
    return data.decode(json.detect_encoding(data))


def files_below(folder: str | os.PathLike) -> Iterator[Path]:
    """The files in a folder and its sub-folders, also those that are links; each folder once.

    What is hidden, and what macOS and Synology leave in archives, is passed over.
    """
    entered = set()
    for name, sub_folders, files in os.walk(os.fspath(folder), followlinks=True):
        if (real := os.path.realpath(name)) in entered:
            sub_folders.clear()
            continue
        entered.add(real)
        seen = [s for s in sub_folders if s not in _LEFTOVERS and not s.startswith(".")]
        links = [s for s in seen if os.path.islink(os.path.join(name, s))]
        sub_folders[:] = [s for s in seen if s not in links] + links  # a folder before links to it
        yield from (Path(name, file) for file in files if not file.startswith("."))


def read_json_object(path: str | os.PathLike) -> dict:
    """As `read_json`, of a file that must hold an object, {...}."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{os.fspath(path)} holds no JSON object, {{...}}: give a COCO JSON.")
    return content


def write_json(path: str | os.PathLike, content: dict | list) -> None:
    """Write `content` to `path`, see `written_beside`."""
    write_text(path, json.dumps(content))  # json.dump takes several times as long


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` to `path` as UTF-8, see `written_beside`."""
    with written_beside(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` when all is written.

    So no half file is left behind. The suffix is that of `path`, for writers that go by it; the
    folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished-{_of_this_thread()}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def full_disk_named() -> Iterator[None]:
    """The system's error as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(f"The disk is full ({error}): make room for what is written.") from error


def _of_this_thread() -> str:
    """So that two that write to one place do not write to one file."""
    return f"{os.getpid()}-{threading.get_ident()}"


@contextmanager
def folder_written_beside(folder: Path) -> Iterator[Path]:
    """As `written_beside`, of a folder: give the path of one to make, where there is none yet."""
    unfinished = folder.with_name(f".{folder.name}.unfinished-{_of_this_thread()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def join_inside(root: str | os.PathLike, name: str, where: str) -> str:
    """`root`/`name`; a name that leaves the folder is refused."""
    if is_url(name):
        raise UserError(f"{where}: {name} is a URL: download the file, and name it in {root}.")
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
        raise UserError(f"{where}: the file name {name} leaves {root}: use one inside the folder.")
    return os.path.join(root, path)


def is_url(name: str) -> bool:
    """Whether what should be a file name is an address."""
    return "://" in name
