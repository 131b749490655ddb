"""Where COCO's files come from, for whoever does not have them yet."""

import os

from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..errors import UserError

_SITE = "http://images.cocodataset.org"
_ANNOTATIONS = f"{_SITE}/annotations/annotations_trainval2017.zip"
_PANOPTIC = f"{_SITE}/annotations/panoptic_annotations_trainval2017.zip"


def require_coco(name: str) -> None:
    """Check that the files of a COCO 2017 dataset are in place; other datasets pass.

    Raises:
        UserError: names what is missing and the address that it can be downloaded from.
    """
    if not name.startswith("coco_2017_"):
        return
    metadata = MetadataCatalog.get(name)
    split = "train2017" if "train" in name else "val2017"
    images = (metadata.image_root, f"{_SITE}/zips/{split}.zip")
    if "panoptic_json" in metadata.as_dict():
        needed = [
            (metadata.panoptic_json, _PANOPTIC),
            (metadata.panoptic_root, f"panoptic_{split}.zip, which is inside {_PANOPTIC}"),
            images,
        ]
    else:
        needed = [(metadata.json_file, _ANNOTATIONS), images]
    missing = [(path, address) for path, address in needed if not PathManager.exists(path)]
    if missing:
        files = "; ".join(f"{os.path.normpath(path)} from {address}" for path, address in missing)
        raise UserError(
            f"Dataset {name} is not complete. Download and unpack {files}. "
            "$DETECTRON2_DATASETS names another folder than ./datasets."
        )
