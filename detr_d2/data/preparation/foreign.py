"""JSON files of annotation tools that are not COCO's, by what they have in them."""

from typing import Any

# Keys that a file has, and what it is, with what to do.
_FORMATS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("shapes", "imagePath"), "labelme's own file: give the folder of them to the format labelme"),
    (("_via_img_metadata",), "a project of VIA: export its annotations as COCO"),
    (("imgHeight", "objects"), "Cityscapes's polygons: give its label maps to the format labels"),
    (("items", "categories"), "datumaro's own file: convert it to coco_instances with datumaro"),
)


def other_format(content: dict) -> str | None:
    """What a JSON is, with what to do, that is not COCO's instances; None where it may be that."""
    annotations = content.get("annotations")
    first: Any = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, dict) and "segments_info" in first:
        return "a COCO panoptic JSON: give it to the format panoptic"
    if "images" in content:
        return None
    return next((words for keys, words in _FORMATS if {*keys} <= content.keys()), None)
