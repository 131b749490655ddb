"""COCO panoptic data itself: other classes, other splits, a part of it."""

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..coco_json import read_coco
from ..files import join_inside
from ..id_maps import RGB, meant_form, read_id_map
from ..images import OtherSize, check_same_size, on_disk
from ..panoptic_map import HUMAN, MODEL, is_of_model, number_segments
from ..problems import (
    OUTSIDE,
    category_problems,
    is_list_of_dicts,
    json_problems,
    raise_first,
    raise_listed,
)
from .annotation import Annotation, Canvas, Segment
from .file_names import found_pictures
from .kinds import AS_ANNOTATED, Kinds, check_names, leave_out_roots
from .source import Picture, Source, listed_size_of


@dataclass(frozen=True)
class Classes:
    """What becomes of the classes, by name.

    Attributes:
        keep: the others become VOID; empty keeps all.
        drop: these become VOID.
        merge: new name: the classes that it is made of, all things or all stuff.
        rename: old name: new name.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    merge: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)

    def apply(self, categories: list[dict]) -> tuple[list[dict], dict[int, int]]:
        """The new categories, and the new id of every old one that is not VOID.

        A merged class has the id of its first part in `categories`.
        """
        by_name = {c["name"]: c for c in categories}
        _check_names(self, by_name)
        name_of = {name: self.rename.get(name, name) for name in by_name}
        first_of: dict[str, str] = {}
        for new, parts in self.merge.items():
            kinds = {bool(by_name[part]["isthing"]) for part in parts}
            if len(kinds) > 1:
                raise UserError(f"{new} cannot be made of things and stuff: merge one kind alone.")
            name_of.update(dict.fromkeys(parts, new))
        for name in {*self.drop}:
            del name_of[name]
        if self.keep:
            name_of = {old: new for old, new in name_of.items() if {old, new} & {*self.keep}}
        for old, new in name_of.items():
            first_of.setdefault(new, old)
            if first_of[new] != old and old not in self.merge.get(new, ()):
                raise UserError(f"{old} and {first_of[new]} would both be {new}: use --merge.")
        kept = [c for c in categories if first_of.get(name_of.get(c["name"], "")) == c["name"]]
        new_id = {
            c["id"]: by_name[first_of[name_of[c["name"]]]]["id"]
            for c in categories
            if c["name"] in name_of
        }
        return [{**c, "name": name_of[c["name"]]} for c in kept], new_id


def from_panoptic(
    image_root: Path,
    panoptic_root: Path,
    panoptic_json: Path,
    classes: Classes | None = None,
    kinds: Kinds = AS_ANNOTATED,
    ignore_crowd: bool = False,
    form: str = RGB,
) -> Source:
    """Convert panoptic data.

    Every segment keeps its pixels, but for those that become VOID; the stuff segments of one class
    in an image become one.
    """
    content = read_coco(panoptic_json)
    # A file that is not inside its folder may be found there all the same.
    found = json_problems(content, str(panoptic_json))
    raise_listed(problem for problem in found if problem.kind != OUTSIDE)
    segments = [s for a in content["annotations"] for s in a["segments_info"]]
    if not is_list_of_dicts(content, "categories"):
        raise_first(category_problems(None, str(panoptic_json)))
    categories, left_out = leave_out_roots(content["categories"], segments)
    categories = kinds.fill(categories)
    raise_first(category_problems(categories, str(panoptic_json)))
    categories, new_id = (classes or Classes()).apply(categories)
    if not categories:
        raise UserError(f"No class of {panoptic_json} is left: keep one.")
    categories = kinds.apply(categories)
    annotations = {a["image_id"]: a for a in content["annotations"]}
    pictures = [
        Picture(image["file_name"], image["id"], annotations[image["id"]], listed_size_of(image))
        for image in content["images"]
        if image["id"] in annotations
    ]
    pictures, names = found_pictures(pictures, image_root, panoptic_json)
    notes = (*left_out, *_images_without(content, len(pictures), panoptic_json), *names)
    stuff = frozenset(c["id"] for c in categories if not c["isthing"])
    return Source(
        image_root,
        pictures,
        categories,
        partial(
            _annotate,
            panoptic_root=panoptic_root,
            new_id=new_id,
            stuff=stuff,
            ignore_crowd=ignore_crowd,
            form=form,
        ),
        notes,
        has_maps=True,
    )


def _images_without(content: dict, used: int, panoptic_json: Path) -> tuple[str, ...]:
    """What is said of images that no annotation is of."""
    count = len(content["images"]) - used
    return (f"{count} images of {panoptic_json} have no annotation: left out.",) if count else ()


def _annotate(
    picture: Picture,
    height: int,
    width: int,
    *,
    panoptic_root: Path,
    new_id: dict[int, int],
    stuff: frozenset[int],
    ignore_crowd: bool,
    form: str,
) -> Annotation:
    where = f"image {picture.image_id}, {picture.file_name}"
    join_inside(panoptic_root, picture.content["file_name"], where)
    path = os.path.join(panoptic_root, on_disk(panoptic_root, picture.content["file_name"]))
    infos = picture.content["segments_info"]
    listed = [info["id"] for info in infos]
    try:
        ids = read_id_map(path, f"({where})", form)
        check_same_size(path, ids.shape, f"({where})", (height, width))
        numbers = number_segments(ids, listed, f"{path} ({where})")
    except OtherSize:
        raise
    except UserError as error:
        raise UserError(meant_form(path, listed, form) or str(error)) from error
    canvas = Canvas(height, width, where)
    for class_ in dict.fromkeys(new_id.values()):
        members = [t for t, s in enumerate(infos, 1) if new_id.get(s["category_id"]) == class_]
        groups = [members] if class_ in stuff else [[t] for t in members]
        for group in filter(None, groups):
            parts = [infos[t - 1] for t in group]
            crowd = 0 if ignore_crowd else max(info.get("iscrowd", 0) for info in parts)
            canvas.add(np.isin(numbers, group), Segment(class_, crowd, *_origin(parts)))
        repeated = len(members) - len({infos[t - 1]["category_id"] for t in members})
        if class_ in stuff and repeated:
            canvas.remarks["times a class of stuff has several segments in an image: united"] += 1
    return canvas.finish()


def _origin(parts: list[dict]) -> tuple[str, float | None]:
    """Source and score of the union: as unsure as its parts; a person's where one of them is, so
    that what a person made is never taken for a model's."""
    if not all(map(is_of_model, parts)):
        return HUMAN if any(part.get("source") == HUMAN for part in parts) else "", None
    return MODEL, min((p["score"] for p in parts if p.get("score") is not None), default=None)


def _check_names(classes: Classes, by_name: dict[str, dict]) -> None:
    parts = [part for parts in classes.merge.values() for part in parts]
    check_names((*classes.drop, *parts, *classes.rename), by_name)
    for name, times in Counter([*{*classes.drop}, *parts, *classes.rename]).items():
        if times > 1:
            raise UserError(f"{name} is dropped, merged or renamed {times} times: do one of them.")
    results = {*by_name, *classes.merge, *classes.rename.values()}
    for name in classes.keep:
        if name not in results:
            raise UserError(f"There is no class {name} to keep: they are {', '.join(by_name)}.")
