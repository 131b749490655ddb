"""A folder of masks for each image, one file an object."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...errors import UserError
from ..images import check_is_exact, check_same_size, find_image_files, on_disk, open_image
from .annotation import Annotation, Canvas, Segment
from .file_names import check_one_image_a_name
from .kinds import AS_ANNOTATED, Kinds
from .source import Picture, Source

_SEVERAL = "masks have several values besides 0: all of them are of the object"
_WHOLE = "masks cover the whole image: look whether they are inverted"
_LIGHT = "masks have a palette whose first colour is not black: look whether they are inverted"
# As in task-1-annotation-2-by-3-tag-car-0.png.
_BRUSH = re.compile(
    r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-.+?-tag-(?P<tag>.+)-\d+\.png"
)


def from_mask_folders(
    image_root: Path, mask_root: Path, kinds: Kinds = AS_ANNOTATED, category: str = ""
) -> Source:
    """Convert `MASKS/a/b/car_1.png` or `MASKS/a/b/car/1.png`, a mask of image `a/b.jpg`.

    A pixel that is not 0 is of the object. `MASKS/task-1-annotation-2-by-3-tag-car-0.png`
    is Label Studio's, see `_brush_masks`. Overlaps: stuff lies below things, and objects lie over
    each other as `Canvas.add_objects` says. The classes are numbered from 1 by name.

    Args:
        kinds: the classes that are stuff, whose masks become one segment; the others are things.
        category: the class of all masks; empty takes it from their names.
    """
    names = find_image_files(image_root)
    masks_of = _brush_masks(mask_root, names, category)
    notes: tuple[str, ...] = ()
    if masks_of:
        notes = (_pairing(masks_of),)
    else:
        check_one_image_a_name(names, "masks")
        masks_of = {name: _masks_of(mask_root, name, category) for name in names}
    notes += _of_no_image(mask_root, masks_of)
    classes = sorted({class_ for masks in masks_of.values() for _, class_ in masks})
    if not classes:
        raise UserError(
            f"{mask_root} has no masks of the images in {image_root}: put those of a/b.jpg into "
            "the folder a/b."
        )
    ids = {name: number for number, name in enumerate(classes, 1)}
    listed = [{"id": id_, "name": name, "isthing": 1} for name, id_ in ids.items()]
    categories: list[dict] = kinds.apply(listed)
    pictures = []
    for number, (name, masks) in enumerate(masks_of.items(), 1):
        content = [(mask, ids[class_]) for mask, class_ in masks]
        pictures.append(Picture(name, number, content))
    return Source(
        image_root,
        pictures,
        categories,
        partial(
            _annotate,
            mask_root=mask_root,
            stuff=[c["id"] for c in categories if not c["isthing"]],
        ),
        notes,
        has_maps=True,
    )


def _masks_of(mask_root: Path, file_name: str, category: str) -> list[tuple[str, str]]:
    """The masks of an image, in the folder of its name, and their classes."""
    name = on_disk(mask_root, str(PurePosixPath(file_name).with_suffix("")))
    folder = mask_root / name
    masks = find_image_files(folder) if folder.is_dir() else []
    return [(f"{name}/{mask}", category or _category_of(mask)) for mask in masks]


def _of_no_image(mask_root: Path, masks_of: dict[str, list[tuple[str, str]]]) -> tuple[str, ...]:
    """What is said of masks that are in no image's folder."""
    used = {mask for masks in masks_of.values() for mask, _ in masks}
    all_masks = find_image_files(mask_root) if mask_root.is_dir() else []
    others = [mask for mask in all_masks if mask not in used]
    if not (used and others):
        return ()
    return (f"{len(others)} masks are of no image, such as {others[0]}: left out.",)


def _brush_masks(
    mask_root: Path, images: list[str], category: str
) -> dict[str, list[tuple[str, str]]]:
    """The same of each image, of masks as Label Studio's brush export names them.

    They name a task, not its image: where there are as many of one as of the other, the images are
    those of the tasks in their order.

    Returns:
        Nothing where no mask is named so.
    """
    found = map(_BRUSH.fullmatch, find_image_files(mask_root) if mask_root.is_dir() else ())
    tasks = defaultdict(list)
    for match in filter(None, found):
        tasks[int(match["task"])].append(match)
    if not tasks:
        return {}
    for task, masks in tasks.items():
        if len({m["annotation"] for m in masks}) > 1:
            raise UserError(f"{mask_root}: task {task} has two annotations: keep one's masks.")
    if len(tasks) != len(images):
        raise UserError(
            f"{mask_root} has masks of {len(tasks)} tasks of Label Studio, and there are "
            f"{len(images)} images: nothing says which is whose. Put the masks of a/b.jpg into the "
            "folder a/b."
        )
    return {
        image: [(m[0], category or m["tag"]) for m in tasks[task]]
        for task, image in zip(sorted(tasks), images)
    }


def _pairing(masks_of: dict[str, list[tuple[str, str]]]) -> str:
    matches = {name: _BRUSH.fullmatch(masks[0][0]) for name, masks in masks_of.items()}
    task = {name: match["task"] for name, match in matches.items() if match is not None}
    first, last = next(iter(task)), next(reversed(task))
    return (
        "warning: Label Studio's masks name tasks, not images. They are taken in order, task "
        f"{task[first]} for {first} to task {task[last]} for {last}: look whether they fit."
    )


def _category_of(mask: str) -> str:
    """The sub-folder, or else the name without its number."""
    path = PurePosixPath(mask)
    if len(path.parts) > 1:
        return path.parts[0]
    name = re.sub(r"[-_ .]*\d+$", "", path.stem)
    if not name:
        raise UserError(
            f"The mask {mask} does not say its class: name it car_1.png or car/1.png, or give "
            "--category where all masks are of one class."
        )
    return name


def _annotate(
    picture: Picture, height: int, width: int, *, mask_root: Path, stuff: list[int]
) -> Annotation:
    where = f"image {picture.image_id}, {picture.file_name}"
    canvas = Canvas(height, width, where)
    masks = []
    for name, id_ in picture.content:
        mask, doubts = _read_mask(mask_root / name, height, width, where)
        masks.append((mask, id_))
        canvas.remarks.update(doubts)
    for id_ in stuff:
        parts = [mask for mask, class_ in masks if class_ == id_]
        if parts:
            canvas.add(np.logical_or.reduce(parts), Segment(id_))
    objects = [(mask, id_) for mask, id_ in masks if id_ not in stuff]
    canvas.add_objects(
        [(int(mask.sum()), Segment(id_)) for mask, id_ in objects], lambda n: objects[n][0]
    )
    if not masks:
        canvas.remarks["images have no masks: all VOID"] += 1
    return canvas.finish()


def _read_mask(path: Path, height: int, width: int, where: str) -> tuple[np.ndarray, list[str]]:
    """(H, W) bool, and what is doubtful in it, in words.

    Where there is transparency, what is transparent is not of the object.
    """
    with open_image(path, f"({where})") as image:
        check_is_exact(image, path, f"({where})")
        try:
            image.load()
            is_light_palette = image.mode == "P" and any((image.getpalette() or [])[:3])
            opaque = _opaque(image)
            if image.mode in ("1", "P", "PA", "LA", "RGBA"):
                image = image.convert("RGB")
            pixels = np.asarray(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path} ({where}) cannot be read as a mask: {error}.") from error
    colours = pixels.reshape(*pixels.shape[:2], -1)
    mask = (colours != 0).any(axis=2)
    if opaque is not None:
        # Objects may be drawn in one colour, black even, and the rest be transparent.
        drawn = colours[opaque]
        mask = opaque if (drawn == drawn[:1]).all() else mask & opaque
    check_same_size(path, mask.shape, f"({where})", (height, width))
    inside = colours[mask]
    doubts = {
        _SEVERAL: len(inside) > 0 and bool((inside != inside[0]).any()),
        _WHOLE: bool(mask.all()),
        _LIGHT: is_light_palette and opaque is None,
    }
    return mask, [words for words, is_so in doubts.items() if is_so]


def _opaque(image: Image.Image) -> np.ndarray | None:
    """(H, W) bool, what is not wholly transparent; None where nothing is."""
    if not (image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info):
        return None
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return None if alpha.all() else alpha > 0
