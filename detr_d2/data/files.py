"""Reading and writing the files of a dataset."""

import json
import os
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ..errors import UserError


def read_json(path: str | os.PathLike) -> dict | list:
    """The content of a JSON file; a `UserError` where there is none."""
    path = os.fspath(path)
    if not PathManager.isfile(path):
        raise UserError(f"{path} does not exist: check the path, or prepare the dataset first.")
    with PathManager.open(path) as f:
        try:
            return json.load(f)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid JSON ({error}): write it again.") from error


def read_json_object(path: str | os.PathLike) -> dict:
    """As `read_json`, of a file that must hold an object, {...}."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{os.fspath(path)} holds no JSON object, {{...}}: give a COCO JSON.")
    return content


def write_json(path: str | os.PathLike, content: dict | list) -> None:
    """Write beside `path` and move it there, so that no half file is left behind."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with open(unfinished, "w") as f:
        json.dump(content, f)
    os.replace(unfinished, path)


def join_inside(root: str | os.PathLike, name: str, where: str) -> str:
    """`root`/`name`; a name that leaves the folder is refused."""
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir:
        raise UserError(f"{where}: the file name {name} leaves {root}: use one inside the folder.")
    return os.path.join(root, path)
