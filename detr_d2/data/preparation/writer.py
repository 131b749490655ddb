"""Writing COCO's panoptic format: `panoptic_NAME.json` and its PNGs in `panoptic_NAME/`."""

import os
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...errors import UserError
from ..doubts import doubts, unused_classes
from ..files import folder_written_beside, join_inside, write_json
from ..images import OtherSize, read_size_and_orientation, turned
from ..panoptic_map import measure_segments, write_panoptic_png
from ..parallel import parallel_map
from ..problems import listing
from .annotation import Annotation, BadAnnotation
from .source import Picture, Source

_TURNED = (
    "photographs are turned by their EXIF orientation, and their sizes do not tell whether that "
    "was done when they were annotated: it is assumed, and --annotated-as-stored is for the others"
)


class Written(NamedTuple):
    """
    Attributes:
        content: of the JSON.
        remarks: what was left out, in words, with how often.
        doubts: sentences on what is allowed and seldom meant.
        images_left_out: a sentence on each image that could not be converted.
    """

    content: dict
    remarks: Counter
    doubts: list[str]
    images_left_out: list[str]


def write_panoptic(
    source: Source, output: Path, name: str, workers: int, skip_bad: bool = False
) -> Written:
    """Annotate all images and write them; nothing appears before all of it is complete.

    The files are the same, byte for byte, whatever the number of workers.

    Args:
        skip_bad: leave out the annotations and the images that cannot be converted.

    Raises:
        UserError: where the dataset exists already, or a file cannot be converted.
    """
    folder, json_file = panoptic_paths(output, name)
    if not source.pictures:
        raise UserError(f"There are no images to convert in {source.image_root}: check its path.")
    check_is_new(output, name)
    with folder_written_beside(folder) as unfinished:
        _make_folder(unfinished)
        png_names = unique_png_names([picture.file_name for picture in source.pictures])
        results = parallel_map(
            partial(_tried, source=_without_pictures(source), folder=unfinished),
            list(zip(source.pictures, png_names)),
            workers,
            f"Converting {name}",
        )
        written = [result for result in results if not isinstance(result, UserError)]
        errors = [result for result in results if isinstance(result, UserError)]
        bad = [*source.bad, *chain.from_iterable(one.bad for one in written)]
        _check_bad(bad, errors, skip_bad)
        if not written:
            raise UserError(
                f"{listing([('images', str(e)) for e in errors])}, and no other is left."
            )
        _check_not_all_void(written, source.image_root)
    content = {
        "images": [one.image for one in written],
        "annotations": [one.annotation for one in written],
        "categories": source.categories,
    }
    write_json(json_file, content)
    remarks = Counter(f"annotations {kind}: left out" for kind, _ in bad)
    for one in written:
        remarks.update(one.remarks)
    doubts = _doubts(source.categories, content["annotations"])
    return Written(content, remarks, doubts, [str(error) for error in errors])


def _check_bad(bad: list[BadAnnotation], errors: list[UserError], skip_bad: bool) -> None:
    """A `UserError` of all that cannot be converted, unless it may be left out."""
    if skip_bad or not (bad or errors):
        return
    if len(errors) == 1 and not bad:
        raise UserError(f"{errors[0]} --skip-bad leaves the image out.")
    wrong = [*bad, *(("images", str(error)) for error in errors)]
    what = "these" if errors else "these annotations"
    raise UserError(f"{listing(wrong)}: {what} cannot be converted. --skip-bad leaves them out.")


def _check_not_all_void(written: list["_One"], image_root: Path) -> None:
    """A `UserError` where something was annotated, and nothing has come of it."""
    if any(one.annotation["segments_info"] for one in written):
        return
    remarks = sum((one.remarks for one in written), Counter())
    said = "".join(f"\n{count} {remark}." for remark, count in sorted(remarks.items()))
    raise UserError(
        f"No pixel of the {len(written)} images in {image_root} is of a class: check that the "
        f"annotations are theirs, and which classes they have.{said}"
    )


def _doubts(categories: list[dict], annotations: list[dict]) -> list[str]:
    unused = unused_classes(categories, annotations)
    more = []
    if unused:
        more.append(
            f"no segment is of {', '.join(unused)}: where there is no such class, leave it out, "
            "with tools/prepare_dataset.py panoptic --drop."
        )
    return doubts(categories, annotations) + more


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder.parent} is no folder to write to: {error.strerror}.") from error


def panoptic_paths(output: Path, name: str) -> tuple[Path, Path]:
    """Folder of the PNGs and JSON of dataset `name`."""
    if not name or PurePosixPath(name).name != name or name == os.pardir:
        raise UserError(f"{name!r} is no name for a dataset: use letters, digits and underscores.")
    return output / f"panoptic_{name}", output / f"panoptic_{name}.json"


def check_is_new(output: Path, name: str) -> None:
    """A `UserError` where a dataset of this name is in `output` already."""
    for path in panoptic_paths(output, name):
        if path.exists():
            raise UserError(f"{path} exists already: remove it, or choose another name or folder.")


def unique_png_names(file_names: list[str]) -> list[str]:
    """The same sub-folders and names with .png; a/b.jpg and a/b.png keep their suffixes both."""
    stems = Counter(str(PurePosixPath(name).with_suffix("")).lower() for name in file_names)
    return [
        f"{name}.png"
        if stems[str(PurePosixPath(name).with_suffix("")).lower()] > 1
        else str(PurePosixPath(name).with_suffix(".png"))
        for name in file_names
    ]


class _Turn(NamedTuple):
    """
    Attributes:
        swaps: an EXIF orientation makes the height the width.
        wanted: `Source.as_stored`.
    """

    swaps: bool
    wanted: bool


def _other_size(
    file: str, where: str, theirs: tuple[int, ...], size: tuple[int, int], turn: _Turn
) -> str:
    (h, w), (height, width) = theirs, size
    found = f"{file} ({where}) is {width} x {height} pixels, and its annotations are for {w} x {h}"
    if not turn.swaps or (h, w) != (width, height):
        return f"{found}: give the images that were annotated, or resize the annotations."
    if turn.wanted:
        return (
            f"{found}: they are for the photograph as its EXIF orientation turns it. Leave out "
            "--annotated-as-stored."
        )
    return (
        f"{found}: they are for the photograph as it lies in the file, before its EXIF "
        "orientation turns it. Give --annotated-as-stored."
    )


def _tells_turns(picture: Picture, source: Source, turn: _Turn, size: tuple[int, int]) -> bool:
    """Whether an annotation of a photograph that is not upright would have another size."""
    has_size = source.has_maps or picture.listed_size is not None
    return has_size and turn.swaps and size[0] != size[1]


def _turned(annotation: Annotation, orientation: int) -> Annotation:
    """An annotation of an image as stored, for the upright image."""
    segment_map = turned(annotation.segment_map, orientation)
    infos = annotation.segments_info
    measured = measure_segments(segment_map, len(infos))
    infos = [{**s, "area": area, "bbox": box} for s, (area, box) in zip(infos, measured)]
    return replace(annotation, segment_map=segment_map, segments_info=infos)


def _without_pictures(source: Source) -> Source:
    """What goes to other processes with every chunk of work."""
    return replace(source, pictures=[], bad=())


class _One(NamedTuple):
    """What is written of one image."""

    image: dict
    annotation: dict
    remarks: Counter
    bad: tuple[BadAnnotation, ...]


def _tried(item: tuple[Picture, str], *, source: Source, folder: Path) -> _One | UserError:
    """As `_write_one`; the error is given and not raised."""
    try:
        return _write_one(*item, source, folder)
    except UserError as error:
        return error


def _write_one(picture: Picture, png_name: str, source: Source, folder: Path) -> _One:
    where = f"image {picture.image_id}"
    image_file = join_inside(source.image_root, picture.file_name, where)
    (height, width), orientation = read_size_and_orientation(image_file, f"({where})")
    turn = _Turn(swaps=orientation >= 5, wanted=source.as_stored)
    size = (width, height) if turn.swaps and turn.wanted else (height, width)
    if picture.listed_size not in (None, size):
        raise UserError(_other_size(image_file, where, picture.listed_size, size, turn))
    try:
        annotation = source.annotate(picture, *size)
    except OtherSize as error:
        if not turn.swaps:
            raise
        raise UserError(_other_size(image_file, where, error.size, size, turn)) from error
    if source.as_stored:
        annotation = _turned(annotation, orientation)
    elif orientation > 1 and not _tells_turns(picture, source, turn, (height, width)):
        annotation.remarks[_TURNED] += 1
    write_panoptic_png(join_inside(folder, png_name, where), annotation.segment_map)
    image = {
        "id": picture.image_id,
        "file_name": picture.file_name,
        "height": height,
        "width": width,
    }
    listed = {
        "image_id": picture.image_id,
        "file_name": png_name,
        "segments_info": annotation.segments_info,
    }
    return _One(image, listed, annotation.remarks, annotation.bad)
