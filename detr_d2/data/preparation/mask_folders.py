"""A folder of masks for each image, one file an object."""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import UserError
from ..images import check_same_size, find_image_files, open_image
from .annotation import Annotation, Canvas, Segment
from .source import Picture, Source

_LOSSY = {".jpg", ".jpeg"}
# As in task-1-annotation-2-by-3-tag-car-0.png.
_BRUSH = re.compile(
    r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-.+?-tag-(?P<tag>.+)-\d+\.png"
)


def from_mask_folders(
    image_root: Path, mask_root: Path, stuff: tuple[str, ...] = (), category: str = ""
) -> Source:
    """Convert `MASKS/a/b/car_1.png` or `MASKS/a/b/car/1.png`, a mask of image `a/b.jpg`.

    A pixel that is not 0 is of the object. `MASKS/task-1-annotation-2-by-3-tag-car-0.png`
    is Label Studio's, see `_brush_masks`. Overlaps: stuff lies below things, and objects lie over
    each other as `Canvas.add_objects` says. The classes are numbered from 1 by name.

    Args:
        stuff: names of the classes that are stuff; all masks of one become one segment.
        category: the class of all masks; empty takes it from their names.
    """
    names = find_image_files(image_root)
    masks_of = _brush_masks(mask_root, names, category)
    notes: tuple[str, ...] = ()
    if masks_of:
        notes = (_pairing(masks_of),)
    else:
        masks_of = {name: _masks_of(mask_root, name, category) for name in names}
    classes = sorted({class_ for masks in masks_of.values() for _, class_ in masks})
    if not classes:
        raise UserError(
            f"{mask_root} has no masks of the images in {image_root}: put those of a/b.jpg into "
            "the folder a/b."
        )
    unknown = sorted(set(stuff) - set(classes))
    if unknown:
        raise UserError(
            f"{mask_root} has no masks of the stuff {unknown[0]}: its classes are "
            f"{', '.join(classes)}."
        )
    ids = {name: number for number, name in enumerate(classes, 1)}
    pictures = []
    for number, (name, masks) in enumerate(masks_of.items(), 1):
        content = [(mask, ids[class_]) for mask, class_ in masks]
        pictures.append(Picture(name, number, content))
    return Source(
        image_root,
        pictures,
        [{"id": id_, "name": name, "isthing": int(name not in stuff)} for name, id_ in ids.items()],
        partial(_annotate, mask_root=mask_root, stuff=[ids[name] for name in stuff]),
        notes,
    )


def _masks_of(mask_root: Path, file_name: str, category: str) -> list[tuple[str, str]]:
    """The masks of an image, in the folder of its name, and their classes."""
    name = str(PurePosixPath(file_name).with_suffix(""))
    folder = mask_root / name
    masks = find_image_files(folder) if folder.is_dir() else []
    return [(f"{name}/{mask}", category or _category_of(mask)) for mask in masks]


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
    masks = [
        (_read_mask(mask_root / name, height, width, where), id_) for name, id_ in picture.content
    ]
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


def _read_mask(path: Path, height: int, width: int, where: str) -> np.ndarray:
    """(H, W) bool."""
    if path.suffix.lower() in _LOSSY:
        raise UserError(f"{path} ({where}) is a JPEG, whose edges are blurred: write masks as PNG.")
    with open_image(path, f"({where})") as image:
        try:
            pixels = np.asarray(
                image.convert("RGB") if image.mode in ("P", "PA", "LA", "RGBA") else image
            )
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path} ({where}) cannot be read as a mask: {error}.") from error
    mask = (pixels != 0) if pixels.ndim == 2 else (pixels != 0).any(axis=2)
    check_same_size(path, mask.shape, f"({where})", (height, width))
    return mask
