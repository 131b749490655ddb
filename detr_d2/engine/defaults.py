"""From files and overrides to a configuration that fits its datasets."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..classes import classes_of_metadata
from ..config import add_detr_config, is_panoptic_fpn
from ..config_files import get_config_file, shipped_names
from ..data import register_from_config
from ..data.common_classes import number_classes_alike
from ..errors import UserError

_REGISTER = "DATASETS.REGISTER."


def setup_cfg(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a configuration and register the datasets that it brings.

    Args:
        config_file: a YAML, as those in configs/; one of these is found by its path within
            configs/ whatever the working directory.
        overrides: keys and values in turn, as on the command line. DATASETS.REGISTER.NAME may
            be a new name.

    Raises:
        UserError: where the file or a dataset does not exist, a key is unknown, or a value does
            not fit.
    """
    cfg = get_cfg()
    add_detr_config(cfg)
    _merge(cfg, config_file, list(overrides))
    register_from_config(cfg)
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    for name in datasets:
        check_num_classes(cfg, name)
    if datasets:
        number_classes_alike(datasets)
    cfg.freeze()
    return cfg


def _merge(cfg: CfgNode, config_file: str, overrides: list) -> None:
    config_file = _found(config_file)
    try:
        cfg.merge_from_file(config_file)
        for key in overrides[::2]:
            if key.startswith(_REGISTER):  # a key that only exists once the dataset has its name
                cfg.DATASETS.REGISTER.setdefault(key.removeprefix(_REGISTER), [])
        cfg.merge_from_list(overrides)
    except (AssertionError, KeyError, ValueError) as error:  # what yacs raises
        reason = " ".join(map(str, error.args))
        raise UserError(
            f"{config_file}: {reason}. Correct the key or its value, there or on the command line."
        ) from error


def _found(config_file: str) -> str:
    """A file as it is named, or one that is shipped."""
    if PathManager.isfile(config_file):
        return config_file
    name = config_file if config_file.endswith(".yaml") else f"{config_file}.yaml"
    if name in shipped_names():
        return get_config_file(name)
    name = config_file or "given"
    raise UserError(f"There is no configuration {name}: name a file of configs/.")


def check_num_classes(cfg: CfgNode, name: str) -> None:
    """Check the numbers of classes in `cfg` against the classes of dataset `name`."""
    if name not in DatasetCatalog.list():
        raise UserError(
            f"There is no dataset {name}: name a registered one in DATASETS, or give its paths in "
            "DATASETS.REGISTER."
        )
    if is_panoptic_fpn(cfg):
        return _check_panoptic_fpn(cfg, name)
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is not None and len(classes) != cfg.MODEL.DETR.NUM_CLASSES:
        raise UserError(
            f"Dataset {name} has {len(classes)} classes, but MODEL.DETR.NUM_CLASSES is "
            f"{cfg.MODEL.DETR.NUM_CLASSES}: set MODEL.DETR.NUM_CLASSES {len(classes)}."
        )


def check_device(cfg: CfgNode) -> None:
    """Say that there is no GPU, before PyTorch says it of its driver."""
    if torch.device(cfg.MODEL.DEVICE).type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but PyTorch finds no GPU: set MODEL.DEVICE cpu."
        )


def _check_panoptic_fpn(cfg: CfgNode, name: str) -> None:
    classes = classes_of_metadata(name)
    if classes is None or not classes.things:
        raise UserError(
            f"Dataset {name} has no things, which Panoptic FPN cannot be built without: use "
            "MODEL.META_ARCHITECTURE PanopticDETR, or a panoptic dataset that has some."
        )
    wanted = {"ROI_HEADS": len(classes.things), "SEM_SEG_HEAD": len(classes.stuff) + 1}
    for head, number in wanted.items():
        if number != cfg.MODEL[head].NUM_CLASSES:
            raise UserError(
                f"Dataset {name} has {len(classes.things)} things and {len(classes.stuff)} stuff "
                f"classes, but MODEL.{head}.NUM_CLASSES is {cfg.MODEL[head].NUM_CLASSES}: set "
                f"MODEL.{head}.NUM_CLASSES {number}."
            )
