"""Label maps, with one class a pixel, and maps of instance numbers beside them (Cityscapes)."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...errors import UserError
from ..files import join_inside
from ..images import check_is_exact, check_same_size, find_image_files, on_disk, open_image
from ..panoptic_map import numbers_of_colours
from .annotation import Annotation, Canvas, Segment
from .categories import labels_of, read_categories
from .file_names import check_one_image_a_name
from .kinds import AS_ANNOTATED, Kinds
from .labelmap import categories_of, read_labelmap, with_colours
from .source import Picture, Source

_MANY = 16  # labels of no class, of an image, that are named one by one


@dataclass(frozen=True)
class Ending:
    """How the name of an image is turned into that of its map: one ending for another.

    Attributes:
        of_image: such as "_leftImg8bit.png"; empty for the suffix, whatever it is.
        of_map: such as "_gtFine_labelIds.png".
    """

    of_image: str = ""
    of_map: str = ".png"

    def replace(self, file_name: str) -> str:
        """The name of the map of an image."""
        if not self.of_image:
            return str(Path(file_name).with_suffix("")) + self.of_map
        return file_name.removesuffix(self.of_image) + self.of_map

    def path(self, root: Path, file_name: str, where: str) -> str:
        """Of the map, in the case that the file has."""
        name = self.replace(file_name)
        join_inside(root, name, where)
        return join_inside(root, on_disk(root, name), where)


SAME_NAME = Ending()


@dataclass(frozen=True)
class Objects:
    """How the pixels of a thing class are divided into objects.

    Attributes:
        root: folder of the maps of instance numbers; without one, objects are connected regions
            (pixels that share an edge or a corner).
        ending: of their names.
        crowd_below: instance numbers below this are of no object alone; all these pixels of a
            class are one crowd region. 1 where 0 means that; 1000 in Cityscapes.
        least_area: connected regions of fewer pixels are VOID.
    """

    root: Path | None = None
    ending: Ending = SAME_NAME
    crowd_below: int = 1
    least_area: int = 1


def from_label_maps(
    image_root: Path,
    label_root: Path,
    categories_file: Path | None,
    ending: Ending = SAME_NAME,
    objects: Objects | None = None,
    labelmap: Path | None = None,
    kinds: Kinds = AS_ANNOTATED,
) -> Source:
    """Convert label maps.

    Args:
        label_root: folder of the label maps, named as the images are but for the ending.
        categories_file: see `read_categories`; a pixel of any other label is VOID.
        objects: how things are told apart; not needed where all classes are stuff.
        labelmap: see `read_labelmap`; maps are read as colours, and `categories_file` may be None:
            then all of its classes but the background are things.
        kinds: which classes are stuff or things all the same.
    """
    known: dict[str, int] = {}
    if labelmap is not None:
        known = read_labelmap(labelmap)
        categories = (
            read_categories(categories_file, kinds)
            if categories_file
            else kinds.apply(categories_of(known))
        )
        categories = with_colours(categories, known, labelmap)
    elif categories_file is None:
        raise UserError("Nothing says which label is which class: give --categories.")
    else:
        categories = read_categories(categories_file, kinds)
    things = [c["name"] for c in categories if c["isthing"]]
    if things and objects is None:
        raise UserError(
            f"{categories_file or labelmap}: {things[0]} is a thing, and nothing says which pixels "
            "are of one object: give --instance-root, or --connected-things."
        )
    names = [n for n in find_image_files(image_root) if n.endswith(ending.of_image)]
    check_one_image_a_name(names, "label map")
    return Source(
        image_root,
        [Picture(name, number) for number, name in enumerate(names, 1)],
        [{k: v for k, v in c.items() if k != "label"} for c in categories],
        partial(
            _annotate,
            label_root=label_root,
            ending=ending,
            categories=categories,
            objects=objects,
            colours=labelmap is not None,
            ignored=frozenset(known.values()),
        ),
        has_maps=True,
    )


def read_label_map(
    path: str, height: int, width: int, where: str, colours: bool = False
) -> np.ndarray:
    """(H, W) integers, of a map that must have this size.

    Args:
        colours: a label is a colour, R + 256 G + 65536 B.
    """
    with open_image(path, f"({where})") as image:
        check_is_exact(image, path, f"({where})")
        try:
            labels = numbers_of_colours(image.convert("RGB")) if colours else np.asarray(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path} ({where}) cannot be read as a map: {error}.") from error
        mode = image.mode
    if labels.ndim == 3 and mode in ("LA", "RGBA") and (labels[..., -1] == 255).all():
        labels = labels[..., :-1]  # nothing is transparent
    if labels.ndim == 3 and mode in ("LA", "RGB", "RGBA") and (labels == labels[..., :1]).all():
        labels = labels[..., 0]  # grey, written as colour
    if labels.ndim != 2 or labels.dtype.kind == "f":
        raise UserError(
            f"{path} ({where}) is in mode {mode}: a map has one whole number a pixel, as a grey or "
            "palette PNG of 8 or 16 bits, or a colour of CVAT's labelmap.txt: give --labelmap."
        )
    check_same_size(path, labels.shape, f"({where})", (height, width))
    return labels.astype(np.int64)


def add_stuff(canvas: Canvas, labels: np.ndarray, categories: list[dict]) -> None:
    """Lay one segment a stuff class, of all pixels that have one of its labels."""
    for category in categories:
        mask = np.isin(labels, labels_of(category))
        if not category["isthing"] and mask.any():
            canvas.add(mask, Segment(category["id"]))


def _annotate(
    picture: Picture,
    height: int,
    width: int,
    *,
    label_root: Path,
    ending: Ending,
    categories: list[dict],
    objects: Objects | None,
    colours: bool,
    ignored: frozenset[int],
) -> Annotation:
    where = f"image {picture.image_id}, {picture.file_name}"
    path = ending.path(label_root, picture.file_name, where)
    labels = read_label_map(path, height, width, where, colours)
    canvas = Canvas(height, width, where)
    add_stuff(canvas, labels, categories)
    things = [c for c in categories if c["isthing"]]
    if things and objects is not None and objects.root is not None:
        path = objects.ending.path(objects.root, picture.file_name, where)
        instances = read_label_map(path, height, width, where, colours)
        _add_numbered_things(canvas, labels, instances, things, objects.crowd_below)
    elif things and objects is not None:
        _add_connected_things(canvas, labels, things, objects.least_area)
    known = {label for c in categories for label in labels_of(c)} | ignored
    canvas.remarks.update(_of_no_category(np.setdiff1d(labels, list(known)).tolist(), colours))
    return canvas.finish()


def _of_no_category(labels: list[int], colours: bool) -> list[str]:
    """What is said of an image's labels that no class has."""
    if len(labels) > _MANY:
        what = "colours" if colours else "labels"
        return [
            f"images have more than {_MANY} {what} of no category, as where a map was resized or "
            "smoothed: VOID"
        ]
    names = [
        f"colour {x & 255}, {x >> 8 & 255}, {x >> 16}" if colours else f"label {x}" for x in labels
    ]
    return [f"images have the {name}, of no category: VOID" for name in names]


def _add_numbered_things(
    canvas: Canvas,
    labels: np.ndarray,
    instances: np.ndarray,
    things: list[dict],
    crowd_below: int,
) -> None:
    for category in things:
        mask = np.isin(labels, labels_of(category))
        crowd = mask & (instances < crowd_below)
        if crowd.any():
            canvas.add(crowd, Segment(category["id"], iscrowd=1))
        for number in np.unique(instances[mask & ~crowd]):
            canvas.add(mask & (instances == number), Segment(category["id"]))


def _add_connected_things(
    canvas: Canvas, labels: np.ndarray, things: list[dict], least_area: int
) -> None:
    for category in things:
        regions, count = ndimage.label(np.isin(labels, labels_of(category)), np.ones((3, 3)))
        areas = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        for region in np.flatnonzero(areas >= least_area) + 1:
            canvas.add(regions == region, Segment(category["id"]))
        small = int((areas < least_area).sum())
        if small:
            canvas.remarks[f"regions of things are below {least_area} pixels: VOID"] += small
