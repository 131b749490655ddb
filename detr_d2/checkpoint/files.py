"""Bytes on disk to plain content; what kind of file it is, its first bytes tell."""

import json
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import UserError
from .pickles import load_torch, read_numbers

# Names of the weights in a Hugging Face folder, the preferred first.
HUGGINGFACE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
# Before zip files, PyTorch began its files with this number, pickled.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def weights_file(path: str) -> str:
    """The file with the weights, on this machine.

    Args:
        path: a file, a URL, which is downloaded if it was not before, or a Hugging Face folder.

    Raises:
        UserError: where there is none.
    """
    path = _downloaded(path) if "://" in path else path
    folder = Path(path)
    if not folder.exists():
        raise UserError(f"There is no file {path}: check MODEL.WEIGHTS, or the path given.")
    if not folder.is_dir():
        return path
    for name in HUGGINGFACE_WEIGHTS:
        if (folder / name).is_file():
            return str(folder / name)
    raise UserError(
        f"{path} is a folder without {' or '.join(HUGGINGFACE_WEIGHTS)}: name a file of weights, "
        "or a folder that Hugging Face's save_pretrained wrote in one piece."
    )


def _downloaded(url: str) -> str:
    try:
        return PathManager.get_local_path(url)
    except OSError as error:
        raise UserError(
            f"{url} was not downloaded ({error}): check the address and the network, or download "
            "it elsewhere and name the file."
        ) from error


def read(path: str) -> dict[str, Any]:
    """Read a file of weights, whatever its format, without running anything that it holds.

    Raises:
        UserError: where it cannot be read, or holds no dict.
    """
    with open(path, "rb") as f:
        start = f.read(len(_OLD_TORCH))
        f.seek(0)
        if _is_safetensors(start):
            content = _load_safetensors(path)
        elif start.startswith(_ZIP) or start == _OLD_TORCH:
            content = load_torch(path)
        elif start.startswith(_PICKLE):
            content = read_numbers(f, path)
        else:
            raise UserError(f"{path} is no file of weights that the project knows: name another.")
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name.")
    return content


def _load_safetensors(path: str) -> dict[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}): get it from its source again."
        ) from error


def _is_safetensors(start: bytes) -> bool:
    # The length of the JSON, whose first byte may be that of a pickle, then the JSON itself.
    return start[4:9] == b"\0\0\0\0{"


def read_config(path: str) -> dict[str, Any]:
    """The config.json that lies beside the weights `path`, {} where there is none."""
    config = Path(path).with_name("config.json")
    if not config.is_file():
        return {}
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{config} is not valid JSON ({error}): get it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{config} is not a configuration: get it again.")
    return content
