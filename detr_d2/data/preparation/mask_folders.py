"""A folder of masks for each image, one file an object."""

import re
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import UserError
from ..images import check_same_size, find_image_files, open_image
from .annotation import Annotation, Canvas, Segment
from .source import Picture, Source

_LOSSY = {".jpg", ".jpeg"}


def from_mask_folders(
    image_root: Path, mask_root: Path, stuff: tuple[str, ...] = (), category: str = ""
) -> Source:
    """Convert `MASKS/a/b/car_1.png` or `MASKS/a/b/car/1.png`, a mask of image `a/b.jpg`.

    A pixel that is not 0 is of the object. Overlaps: stuff lies below things, and objects lie over
    each other as `Canvas.add_objects` says. The classes are numbered from 1 by name.

    Args:
        stuff: names of the classes that are stuff; all masks of one become one segment.
        category: the class of all masks; empty takes it from their names.
    """
    masks_of = {name: _masks_of(mask_root, name) for name in find_image_files(image_root)}
    classes = sorted(
        {category or _category_of(mask) for masks in masks_of.values() for mask in masks}
    )
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
        content = [(f"{_folder_of(name)}/{m}", ids[category or _category_of(m)]) for m in masks]
        pictures.append(Picture(name, number, content))
    return Source(
        image_root,
        pictures,
        [{"id": id_, "name": name, "isthing": int(name not in stuff)} for name, id_ in ids.items()],
        partial(_annotate, mask_root=mask_root, stuff=[ids[name] for name in stuff]),
    )


def _folder_of(file_name: str) -> str:
    return str(PurePosixPath(file_name).with_suffix(""))


def _masks_of(mask_root: Path, file_name: str) -> list[str]:
    folder = mask_root / _folder_of(file_name)
    return find_image_files(folder) if folder.is_dir() else []


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
