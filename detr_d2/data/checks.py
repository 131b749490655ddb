"""Checks before the first iteration, of what would otherwise stop training in the middle."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from iopath.common.file_io import get_cache_dir
from tqdm import tqdm

from ..errors import UserError
from .broken_images import BrokenImages
from .files import is_remote
from .images import check_same_size, read_image_size

logger = logging.getLogger(__name__)

# Images, from which on there is a progress bar, and it is kept that they were found to be right.
_LONG = 2000


def check_dataset(
    dataset_dicts: list[dict],
    name: str,
    broken_images: BrokenImages | None = None,
    open_files: bool = True,
) -> None:
    """Check that a dataset has images, that its files exist, and that sizes agree.

    Only the files' headers are read, and none that would have to be downloaded. Many images that
    were right are not opened again while their files have the same sizes and times: that is kept in
    Detectron2's cache, $FVCORE_CACHE/detr_d2 or ~/.torch/iopath_cache/detr_d2. Whether JSON and PNG
    list the same segments is seen when an image is loaded, see `PanopticDatasetMapper`.

    Args:
        broken_images: told of an image that is not as it should be; None ends with the first.
        open_files: False checks nothing but that there are images.

    Raises:
        UserError: the first thing that is wrong.
    """
    if not dataset_dicts:
        raise UserError(
            f"Dataset {name} has no images: check the `annotations` of its JSON, or take it out "
            "of DATASETS.TRAIN and DATASETS.TEST."
        )
    if not open_files:
        return
    images = [image for image in dataset_dicts if not any(map(is_remote, _files_of(image)))]
    if len(images) < len(dataset_dicts):
        logger.info(
            "%d of %d images of %s are not on this machine: each is checked when it is read.",
            *(len(dataset_dicts) - len(images), len(dataset_dicts), name),
        )
    kept = _kept_of(images) if len(images) >= _LONG else None
    if kept is not None and kept.exists():
        return
    with ThreadPoolExecutor() as pool:
        checked: Iterable = pool.map(_error_of, images)
        if len(images) >= _LONG:
            checked = tqdm(checked, f"Checking {name}", len(images))
        for image, error in zip(images, checked):
            if error is None:
                continue
            kept = None
            if broken_images is None:
                raise error
            broken_images.meet(image, error, len(dataset_dicts))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()


def _files_of(image: dict) -> list[str]:
    keys = ("file_name", "pan_seg_file_name")
    return [os.fspath(image[key]) for key in keys if key in image]


def _kept_of(images: list[dict]) -> Path:
    """A file whose name says all that the check of `images` depends on; it exists where they were
    found to be right."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for image, states in zip(images, pool.map(_states_of, images)):
            listed = image.get("height"), image.get("width")
            digest.update(repr((_files_of(image), states, listed)).encode())
    return Path(get_cache_dir(), "detr_d2", "checked_images", digest.hexdigest())


def _states_of(image: dict) -> list[tuple[int, int] | None]:
    states: list[tuple[int, int] | None] = []
    for file in _files_of(image):
        try:
            state = os.stat(file)
        except OSError:
            states.append(None)
        else:
            states.append((state.st_size, state.st_mtime_ns))
    return states


def _error_of(dataset_dict: dict) -> UserError | None:
    try:
        _check_files(dataset_dict)
    except UserError as error:
        return error
    return None


def _check_files(dataset_dict: dict) -> None:
    where = f"(image {dataset_dict['image_id']})"
    image = dataset_dict["file_name"]
    size = read_image_size(image, where)
    if "pan_seg_file_name" in dataset_dict:
        png = dataset_dict["pan_seg_file_name"]
        check_same_size(f"{png} {where}", read_image_size(png, where), image, size, image)
    check_listed_size(dataset_dict, size)


def check_listed_size(dataset_dict: dict, size: tuple[int, ...]) -> None:
    """A `UserError` where `height` and `width` of a dict are not its image's (height, width)."""
    height, width = dataset_dict.get("height", size[0]), dataset_dict.get("width", size[1])
    if (height, width) != tuple(size):
        raise UserError(
            f"{dataset_dict['file_name']} (image {dataset_dict['image_id']}) is {size[1]} x "
            f"{size[0]} pixels, but the JSON says {width} x {height}: correct the JSON, with "
            "tools/validate_dataset.py --fix."
        )


def warn_of_too_few_queries(
    dataset_dicts: list[dict], num_queries: int, fixed_classes: Collection[int] = ()
) -> None:
    """Say, with counts, that some images have more segments than the model can find.

    Args:
        num_queries: of the model, those of `fixed_classes` not counted.
        fixed_classes: contiguous classes that have queries of their own.
    """
    counts = [
        sum(
            segment.get("category_id") not in fixed_classes
            for segment in d.get("segments_info", d.get("annotations", ()))
        )
        for d in dataset_dicts
    ]
    above = [count for count in counts if count > num_queries]
    if above:
        logger.warning(
            "%d of %d images have more segments than the %d queries, up to %d: %d of %d segments "
            "cannot be found. Raise MODEL.DETR.NUM_OBJECT_QUERIES.",
            len(above),
            len(counts),
            num_queries,
            max(above),
            sum(above) - num_queries * len(above),
            sum(counts),
        )
