"""From other formats to COCO's panoptic format: a converter gives a `Source`, which is written."""

from .instances import from_instances
from .kinds import Kinds
from .label_maps import Ending, Objects, from_label_maps
from .labelme import from_labelme
from .mask_folders import from_mask_folders
from .panoptic import Classes, from_panoptic
from .source import Source, read_list
from .writer import check_is_new, panoptic_paths, write_panoptic

__all__ = [
    "Classes",
    "Ending",
    "Kinds",
    "Objects",
    "Source",
    "check_is_new",
    "from_instances",
    "from_label_maps",
    "from_labelme",
    "from_mask_folders",
    "from_panoptic",
    "panoptic_paths",
    "read_list",
    "write_panoptic",
]
