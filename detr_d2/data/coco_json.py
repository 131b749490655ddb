"""COCO's JSON as people's scripts write it: ids may be 3.0 or "3", as pandas makes them."""

import os

from .files import read_json_object

_WHOLE = ("category_id", "iscrowd", "isthing")


def read_coco(path: str | os.PathLike) -> dict:
    """As `read_json_object`, of a COCO JSON of any kind; whole numbers become int.

    `"3"` and `3.0` are 3 in ids of categories and segments, in flags and in sizes. Images may have
    text as ids, such as "000123", which stays text; where `images` lists numbers alone, so are the
    ids that annotations name them by.
    """
    content = read_json_object(path)
    images, categories, annotations = (
        [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        for items in map(content.get, ("images", "categories", "annotations"))
    )
    for item in categories:
        _make_whole(item, ("id", *_WHOLE))
    for item in images:
        _make_whole(item, ("height", "width"))
        _make_whole(item, ("id",), text=False)
    numbered = all(isinstance(item.get("id"), int) for item in images)
    for item in annotations:
        _make_whole(item, _WHOLE)
        _make_whole(item, ("image_id",), text=numbered)
        segments = item.get("segments_info")
        for segment in segments if isinstance(segments, list) else ():
            if isinstance(segment, dict):
                _make_whole(segment, ("id", *_WHOLE))
    return content


def _make_whole(item: dict, keys: tuple[str, ...], text: bool = True) -> None:
    for key in keys:
        value = item.get(key)
        if isinstance(value, float) or (text and isinstance(value, str)):
            item[key] = _whole(value)


def _whole(value: float | str) -> int | float | str:
    """The whole number that is meant, or the value itself."""
    try:
        number = float(value)
        return int(number) if number.is_integer() else value
    except ValueError:
        return value
