"""COCO's JSON as people's scripts write it: ids may be 3.0 or "3", as pandas makes them."""

import codecs
import json
import os
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from .files import read_json_object

_FLAGS = ("iscrowd", "isthing")
_CATEGORIES = b'"categories"'
_FIRST_BYTES = 2**16  # of categories, that are looked at first


def read_coco(path: str | os.PathLike) -> dict:
    """As `read_json_object`, of a COCO JSON of any kind; whole numbers become int.

    `"3"` and `3.0` are 3 in ids of categories and segments, in flags and in sizes; a flag that is
    null or NaN is not there. Images may have text as ids, such as "000123", which stays text;
    annotations may name them by the number that it is.
    """
    content = read_json_object(path)
    images, categories, annotations = (
        [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        for items in map(content.get, ("images", "categories", "annotations"))
    )
    for item in images:
        _make_whole(item, ("height", "width"))
        if "file_name" not in item and isinstance(item.get("coco_url"), str):
            item["file_name"] = item["coco_url"]  # LVIS
        if isinstance(item.get("id"), float):
            _make_whole(item, ("id",))
    for item in categories:
        make_category_whole(item)
    image_ids = _ImageIds(images)
    for item in annotations:
        _make_whole(item, ("category_id", *_FLAGS))
        if "image_id" in item:
            item["image_id"] = image_ids.meant(item["image_id"])
        segments = item.get("segments_info")
        for segment in segments if isinstance(segments, list) else ():
            if isinstance(segment, dict):
                _make_whole(segment, ("id", "category_id", *_FLAGS))
    return content


def read_categories(path: str | os.PathLike) -> Any:
    """`categories` of `read_coco`. Of a long JSON, only these are parsed where that is safe: where
    the file has the word once, and a list behind it."""
    data = b""
    if PathManager.isfile(path := os.fspath(path)):
        data = Path(PathManager.get_local_path(path)).read_bytes()
    categories = _list_behind(_CATEGORIES, data) if data.count(_CATEGORIES) == 1 else None
    if categories is None:
        return read_coco(path).get("categories")
    for item in categories:
        if isinstance(item, dict):
            make_category_whole(item)
    return categories


def _list_behind(key: bytes, data: bytes) -> list | None:
    """The value of a key of a JSON in UTF-8; None where it is no list, or cannot be read."""
    start = data.index(key) + len(key)
    length = _FIRST_BYTES
    while True:
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(data[start : start + length])
            before, colon, value = text.partition(":")
            if before.strip() or not colon:
                return None
            found, _ = json.JSONDecoder().raw_decode(value.lstrip())
            return found if isinstance(found, list) else None
        except UnicodeDecodeError:
            return None
        except json.JSONDecodeError:  # it goes on behind what was looked at
            if start + length >= len(data):
                return None
            length *= 16


def make_category_whole(category: dict) -> None:
    """The same of one category, in place."""
    _make_whole(category, ("id", *_FLAGS))


class _ImageIds:
    """The ids in `images`, whether annotations have them as text or as numbers."""

    def __init__(self, images: list[dict]):
        ids = [item.get("id") for item in images]
        self.known = {id_ for id_ in ids if isinstance(id_, (int, str))}
        self.by_number: dict[Any, list] = {}
        for id_ in self.known:
            self.by_number.setdefault(whole(id_), []).append(id_)

    def meant(self, value: Any) -> Any:
        """The id that an annotation's `image_id` is; the value itself where it is none."""
        if not isinstance(value, (int, float, str)) or value in self.known:
            return whole(value) if isinstance(value, float) else value
        same = self.by_number.get(whole(value), [])
        return same[0] if len(same) == 1 else whole(value)


def _make_whole(item: dict, keys: tuple[str, ...]) -> None:
    for key in keys:
        value = item.get(key)
        if isinstance(value, (bool, float, str)):
            item[key] = value = int(value) if isinstance(value, bool) else whole(value)
        if key in _FLAGS and key in item and (value is None or value != value):  # NaN
            del item[key]


def whole(value: Any) -> Any:
    """The whole number that is meant, or the value itself."""
    if not isinstance(value, (float, str)):
        return value
    try:
        number = float(value)
        return int(number) if number.is_integer() else value
    except ValueError:
        return value
