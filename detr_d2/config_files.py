"""The configurations and checkpoints that the project ships, by name, wherever it is installed.

In a wheel they lie in the package, in a working copy beside it: configs/ is the one copy.
"""

from pathlib import Path

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from .errors import UserError

_PACKAGE = Path(__file__).resolve().parent
PREFIX = "detr_d2://"


def configs_folder() -> Path:
    """The folder configs/."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def shipped_names() -> list[str]:
    """The configurations' paths within configs/, such as "COCO-Detection/detr_R_50.yaml"."""
    folder = configs_folder()
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.yaml"))


def get_config_file(name: str) -> str:
    """The path of a shipped configuration.

    Args:
        name: its path within configs/; ".yaml" may be left out.

    Raises:
        UserError: where there is none of this name.
    """
    file = find_config_file(name)
    if file is None:
        raise UserError(
            f"There is no configuration {name} among those that detr_d2 ships: name one of "
            f"{', '.join(shipped_names())}."
        )
    return file


def find_config_file(name: str) -> str | None:
    """As `get_config_file`; None where there is none of this name."""
    file = name if name.endswith(".yaml") else f"{name}.yaml"
    return str(configs_folder() / file) if file in shipped_names() else None


class _ShippedFiles(PathHandler):
    """Files of configs/, as detr_d2://PATH."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs) -> str:
        file = (configs_folder() / path.removeprefix(PREFIX)).resolve()
        if not file.is_relative_to(configs_folder().resolve()) or not file.is_file():
            raise UserError(f"detr_d2 ships no file {path}: look into {configs_folder()}.")
        return str(file)

    def _isfile(self, path: str, **kwargs) -> bool:
        try:
            return bool(self._get_local_path(path))
        except UserError:
            return False

    _exists = _isfile

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs):
        return open(self._get_local_path(path), mode, buffering, **kwargs)


PathManager.register_handler(_ShippedFiles())
