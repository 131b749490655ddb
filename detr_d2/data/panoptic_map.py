"""The panoptic PNG as a map of segments: read once, never split into one mask a segment."""

import os

import numpy as np
from PIL import Image

from ..errors import UserError
from .files import written_beside
from .images import read_upright


class OtherForm(UserError):
    """A map whose ids are not in COCO's form."""


HUMAN, MODEL = "human", "model"  # who made a segment: `source` in its segments_info


def is_of_model(info: dict) -> bool:
    """Whether a model made a segment, and no person has accepted it yet."""
    return info.get("source") == MODEL


def read_panoptic_png(path: str | os.PathLike, where: str = "") -> np.ndarray:
    """(H, W) int32 of segment ids, R + 256 G + 65536 B; 0 = VOID.

    Args:
        where: stands behind the path in errors.

    Raises:
        OtherForm: where it has more than 8 bits a channel, which RGB would cut.
        UserError: where the file cannot be read.
    """
    image, is_deep = read_upright(path, where, is_map=True)
    if is_deep or image.mode.startswith(("I", "F")):
        kind = "is a grey map" if image.mode.startswith(("I", "F")) else "has channels"
        raise OtherForm(
            f"{path} {where} {kind} of more than 8 bits, and COCO's format has ids as "
            "R + 256 G + 65536 B: convert the dataset with tools/prepare_dataset.py panoptic "
            "--ids value, or --ids scaled where 8 bits were stretched to 16."
        )
    return numbers_of_colours(image.convert("RGB"))


def numbers_of_colours(image: Image.Image) -> np.ndarray:
    """(H, W) int32, R + 256 G + 65536 B of an image in the mode "RGB"."""
    # Pillow keeps a pixel in four bytes, of which the last means nothing.
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), dtype="<i4")
    return (pixels & 0xFFFFFF).reshape(image.height, image.width)


def write_panoptic_png(path: str | os.PathLike, ids: np.ndarray, compress_level: int = 6) -> None:
    """Write (H, W) integer ids, 0 to 2^24 - 1, as `read_panoptic_png` reads them.

    Args:
        compress_level: of the PNG, 0 to 9; 6 is Pillow's own, 1 takes half of its time.
    """
    # Pillow drops the fourth byte of each number.
    pixels = np.ascontiguousarray(ids, dtype="<u4").tobytes()
    height, width = ids.shape
    picture = Image.frombytes("RGB", (width, height), pixels, "raw", "RGBX")
    with written_beside(path) as unfinished:
        picture.save(unfinished, format="PNG", compress_level=compress_level)


def read_segment_map(dataset_dict: dict) -> np.ndarray:
    """The PNG of a dataset dict, see `number_segments`: t + 1 at segment t of `segments_info`."""
    path = dataset_dict["pan_seg_file_name"]
    segment_ids = [info["id"] for info in dataset_dict["segments_info"]]
    where = f"{path} (image {dataset_dict['image_id']})"
    return number_segments(read_panoptic_png(path), segment_ids, where)


def number_segments(ids: np.ndarray, segment_ids: list[int], where: str) -> np.ndarray:
    """Replace each segment id by its place in `segment_ids`, counted from 1.

    Args:
        ids: (H, W) integer, 0 = VOID.
        segment_ids: the ids that the annotation lists.
        where: names the image in errors.

    Returns:
        (H, W) uint16, t + 1 at the pixels of segment t, 0 at VOID.

    Raises:
        UserError: where map and annotation do not name the same segments.
    """
    # Neighbours mostly belong together, so ids are looked up once a run of equal pixels.
    values, lengths = runs_of(ids)
    numbers, unlisted = places_of(values, segment_ids)
    if len(unlisted):
        raise UserError(only_in_png(where, unlisted[0]))
    missing = np.setdiff1d(np.arange(len(segment_ids)), numbers - 1)
    if len(missing):
        raise UserError(only_in_json(where, segment_ids[missing[0]]))
    return numbers.astype(np.uint16).repeat(lengths).reshape(ids.shape)


def places_of(ids: np.ndarray, listed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Look ids up in a list.

    Args:
        ids: (R,) integer, 0 = VOID.

    Returns:
        places: (R,) int64, the place of each id in `listed`, counted from 1; 0 for VOID and for
            what is not listed.
        unlisted: the ids that are not listed, in the order in which they come.
    """
    known = np.array([0, *listed], dtype=np.int64)
    order = known.argsort(kind="stable")
    places = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)]
    is_unlisted = known[places] != ids
    return np.where(is_unlisted, 0, places), ids[is_unlisted]


def runs_of(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value and the length of each run of equal pixels, row after row."""
    flat = ids.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return flat[starts], np.diff(starts, append=len(flat))


def only_in_png(where: str, segment_id: int) -> str:
    """What is said of a segment that the annotation does not list."""
    return (
        f"{where}: the PNG has a segment {segment_id} that the JSON does not list: add it to "
        "segments_info, or paint it 0 (VOID) in the PNG."
    )


def only_in_json(where: str, segment_id: int) -> str:
    """What is said of a segment that the PNG does not have."""
    return (
        f"{where}: the JSON lists a segment {segment_id} that has no pixel in the PNG: remove it "
        "from segments_info."
    )


def boxes_of_segments(segment_map: np.ndarray, num_segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Tight boxes of the segments that have pixels, from the runs of equal pixels in each row.

    Args:
        segment_map: (H, W) integer, t + 1 at segment t.

    Returns:
        present: (T',) int64, the segments t that have pixels, ascending.
        boxes: (T', 4) float32, (x0, y0, x1, y1) in pixels; a box ends behind its last pixel, so
            that one pixel has width 1 (as Detectron2's masks, unlike the official data).
    """
    height, width = segment_map.shape
    is_start = np.ones(segment_map.shape, dtype=bool)  # of a run of equal pixels in one row
    np.not_equal(segment_map[:, 1:], segment_map[:, :-1], out=is_start[:, 1:])
    starts = np.flatnonzero(is_start)
    segments = segment_map.ravel()[starts]
    rows, columns = np.divmod(starts, width)
    ends = columns + np.diff(starts, append=segment_map.size)

    boxes = np.full((num_segments + 1, 4), (width, height, 0, 0))
    extremes: tuple[np.ufunc, ...] = (np.minimum, np.minimum, np.maximum, np.maximum)
    for side, extreme, values in zip(boxes.T, extremes, (columns, rows, ends, rows + 1)):
        extreme.at(side, segments, values)
    (present,) = np.nonzero(boxes[1:, 2])
    return present, boxes[1:][present].astype(np.float32)


def measure_segments(segment_map: np.ndarray, num_segments: int) -> list[tuple[int, list[int]]]:
    """Area and box (x, y, width, height), in pixels, of each segment, as COCO wants them.

    Args:
        segment_map: (H, W) integer, t + 1 at segment t; every segment has a pixel.
    """
    areas = np.bincount(segment_map.ravel(), minlength=num_segments + 1)[1:].tolist()
    _, boxes = boxes_of_segments(segment_map, num_segments)
    corners = boxes.astype(int).tolist()
    return [(area, [x0, y0, x1 - x0, y1 - y0]) for area, (x0, y0, x1, y1) in zip(areas, corners)]
