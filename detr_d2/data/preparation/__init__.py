"""From other formats to COCO's panoptic format: a converter gives a `Source`, which is written."""

from .annotation import Annotation, Canvas, Segment
from .instances import from_instances
from .kinds import AS_ANNOTATED, Kinds, check_names
from .label_maps import Ending, Objects, from_label_maps
from .labelme import from_labelme
from .mask_folders import from_mask_folders
from .panoptic import Classes, from_panoptic
from .source import Picture, Source, read_list
from .writer import check_is_new, panoptic_paths, write_panoptic

__all__ = [
    "AS_ANNOTATED",
    "Annotation",
    "Canvas",
    "Classes",
    "Ending",
    "Kinds",
    "Objects",
    "Picture",
    "Segment",
    "Source",
    "check_is_new",
    "check_names",
    "from_instances",
    "from_label_maps",
    "from_labelme",
    "from_mask_folders",
    "from_panoptic",
    "panoptic_paths",
    "read_list",
    "write_panoptic",
]
