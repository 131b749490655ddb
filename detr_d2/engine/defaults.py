"""From files and overrides to a configuration that fits its datasets."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from yaml import YAMLError

from ..checkpoint import recorded_categories
from ..config import add_detr_config
from ..config_files import find_config_file
from ..data import register_from_config
from ..data.common_classes import Classes, has_classes, number_classes_alike, number_like
from ..data.files import is_remote
from ..errors import UserError
from ..model_kind import kind_of
from .imports import import_named

_REGISTER = "DATASETS.REGISTER."


def setup_cfg(
    config_file: str,
    overrides: Sequence[Any] = (),
    *,
    add_config: Sequence[Callable[[CfgNode], None]] = (),
) -> CfgNode:
    """Read a configuration and register the datasets that it brings.

    What `IMPORTS` names is imported first; a module may have a function `add_config(cfg)`.

    Args:
        config_file: a YAML, as those in configs/; one of these is found by its path within
            configs/ whatever the working directory.
        overrides: keys and values in turn, as on the command line. DATASETS.REGISTER.NAME may
            be a new name.
        add_config: functions that add keys of your own to the configuration that they are given.

    Raises:
        UserError: where the file, a module or a dataset does not exist, a key is unknown, or a
            value does not fit.
    """
    cfg = get_cfg()
    add_detr_config(cfg)
    _merge(cfg, found_config_file(config_file), list(overrides), add_config)
    register_from_config(cfg, recorded_categories)
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    for name in datasets:
        check_dataset_classes(cfg, name)
    if datasets:
        number_classes_alike(datasets)
    if is_remote(cfg.OUTPUT_DIR):
        raise UserError(
            f"OUTPUT_DIR is {cfg.OUTPUT_DIR}, but only folders are written to: set one."
            " Copy it afterwards."
        )
    cfg.freeze()
    return cfg


def _merge(cfg: CfgNode, config_file: str, overrides: list, add_config: Sequence) -> None:
    try:
        modules = import_named(config_file, overrides)
        for add in (*(m.add_config for m in modules if hasattr(m, "add_config")), *add_config):
            add(cfg)
        cfg.merge_from_file(config_file, allow_unsafe=False)
        for key in overrides[::2]:
            if key.startswith(_REGISTER):  # a key that only exists once the dataset has its name
                cfg.DATASETS.REGISTER.setdefault(key.removeprefix(_REGISTER), [])
        cfg.merge_from_list(overrides)
    except UserError:
        raise
    except (AssertionError, KeyError, ValueError, YAMLError) as error:  # what yacs raises
        reason = " ".join(map(str, error.args))
        raise UserError(
            f"{config_file}: {reason}. Correct the key or its value, there or on the command line."
        ) from error


def found_config_file(config_file: str) -> str:
    """A file as it is named, or one that is shipped.

    Raises:
        UserError: where there is neither.
    """
    file = config_file if PathManager.isfile(config_file) else find_config_file(config_file)
    if file is None:
        name = config_file or "given"
        raise UserError(f"There is no configuration {name}: name a file of configs/.")
    return file


def check_dataset_classes(cfg: CfgNode, name: str) -> None:
    """Check that dataset `name` exists, and that the model of `cfg` has its classes."""
    if name not in DatasetCatalog.list():
        raise UserError(
            f"There is no dataset {name}: name a registered one in DATASETS, or give its paths in "
            "DATASETS.REGISTER."
        )
    kind_of(cfg).check_classes(cfg, name)


def check_loaded_classes(cfg: CfgNode, names: Iterable[str]) -> None:
    """As `check_dataset_classes`, of datasets that tell their classes when they are loaded alone.

    So do those that `register_coco_instances` has registered; the others are not loaded for it.
    """
    once = [*dict.fromkeys(names)]
    for name in once:
        if "thing_classes" not in MetadataCatalog.get(name).as_dict():
            DatasetCatalog.get(name)
        check_dataset_classes(cfg, name)
    if once:
        number_classes_alike(once)


def number_classes_like_weights(cfg: CfgNode, more: Iterable[str] = ()) -> None:
    """Let the datasets have their classes in the order that MODEL.WEIGHTS has recorded, by name.

    Where it has other classes, or has recorded none, the order is that of the first dataset.

    Args:
        more: datasets that are used besides those of the configuration.
    """
    names = [*dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *more))]
    if not names:
        return
    number_classes_alike(names)
    weights = cfg.MODEL.WEIGHTS
    categories = recorded_categories(weights) if weights else None
    wanted: Classes = [(c["name"], bool(c["isthing"])) for c in categories or ()]
    if has_classes(names[0], wanted):
        number_like(wanted, f"the checkpoint {weights}", names)


def check_device(cfg: CfgNode) -> None:
    """Say that there is no GPU, before PyTorch says it of its driver."""
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but PyTorch finds no GPU: set MODEL.DEVICE cpu."
        )
