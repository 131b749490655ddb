"""Modules of the user's own, which register parts and add configuration keys."""

import importlib
import importlib.util
import sys
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from detectron2.config import CfgNode

from ..errors import UserError

_KEY = "IMPORTS"


def import_named(config_file: str, overrides: Sequence[str]) -> list[ModuleType]:
    """Import what `IMPORTS` names, in a configuration (or its bases) and in its overrides.

    A configuration names modules that Python finds. Files, NAME.py, are run where the command
    line names them, and not where a configuration does, which may be a stranger's.

    Raises:
        UserError: where there is no such module.
    """
    in_file = CfgNode.load_yaml_with_base(config_file).get(_KEY) or []
    values = [literal_eval(v) for k, v in zip(overrides[::2], overrides[1::2]) if k == _KEY]
    given = [name for value in values for name in value]
    for name in in_file:
        if not isinstance(name, str) or name.endswith(".py"):
            raise UserError(
                f"{config_file}: IMPORTS names {name}, and must name modules that Python finds: "
                "give files on the command line, with --import."
            )
    return [import_module(name) for name in dict.fromkeys([*in_file, *given])]


def import_module(name: str) -> ModuleType:
    """Import a module by its name, or a file by its path, which ends in .py."""
    if name.endswith(".py"):
        return _import_file(Path(name).resolve())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports another that is not
        raise UserError(
            f"There is no module {name}: set PYTHONPATH to the folder that it is in, or name its "
            "file, with --import NAME.py."
        ) from error


def _import_file(file: Path) -> ModuleType:
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if not file.is_file():
        raise UserError(f"There is no file {file}: correct --import.")
    if known is not None:
        raise UserError(f"There is another module {name} already: give {file} another name.")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "file ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of it
        raise
    return module
