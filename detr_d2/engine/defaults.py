"""From files and overrides to a configuration that fits its datasets."""

from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..config import add_detr_config
from ..data import register_from_config
from ..errors import UserError

_REGISTER = "DATASETS.REGISTER."


def setup_cfg(config_file: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a configuration and register the datasets that it brings.

    Args:
        config_file: a YAML, as those in configs/.
        overrides: keys and values in turn, as on the command line. DATASETS.REGISTER.NAME may
            be a new name.

    Raises:
        UserError: where a dataset does not exist or does not fit the configuration.
    """
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_file(config_file)
    for key in overrides[::2]:
        if key.startswith(_REGISTER):  # a key that only exists once the dataset has its name
            cfg.DATASETS.REGISTER.setdefault(key.removeprefix(_REGISTER), [])
    cfg.merge_from_list(list(overrides))
    register_from_config(cfg)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        check_num_classes(cfg, name)
    cfg.freeze()
    return cfg


def check_num_classes(cfg: CfgNode, name: str) -> None:
    """Check MODEL.DETR.NUM_CLASSES against the classes of dataset `name`."""
    if name not in DatasetCatalog.list():
        raise UserError(
            f"There is no dataset {name}: name a registered one in DATASETS, or give its paths in "
            "DATASETS.REGISTER."
        )
    classes = MetadataCatalog.get(name).get("thing_classes")
    if classes is not None and len(classes) != cfg.MODEL.DETR.NUM_CLASSES:
        raise UserError(
            f"Dataset {name} has {len(classes)} classes, but MODEL.DETR.NUM_CLASSES is "
            f"{cfg.MODEL.DETR.NUM_CLASSES}: set MODEL.DETR.NUM_CLASSES {len(classes)}."
        )
