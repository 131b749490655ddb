"""Checks before the first iteration, of what would otherwise stop training in the middle."""

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from ..errors import UserError
from .broken_images import BrokenImages
from .images import check_same_size, read_image_size

logger = logging.getLogger(__name__)

_LONG = 2000  # images, from which on there is a progress bar


def check_dataset(
    dataset_dicts: list[dict], name: str, broken_images: BrokenImages | None = None
) -> None:
    """Check that a dataset has images, that its files exist, and that sizes agree.

    Only the files' headers are read. Whether JSON and PNG list the same segments is seen when an
    image is loaded, see `PanopticDatasetMapper`.

    Args:
        broken_images: told of an image that is not as it should be; None ends with the first.

    Raises:
        UserError: the first thing that is wrong.
    """
    if not dataset_dicts:
        raise UserError(
            f"Dataset {name} has no images: check the `annotations` of its JSON, or take it out "
            "of DATASETS.TRAIN and DATASETS.TEST."
        )
    with ThreadPoolExecutor() as pool:
        checked = pool.map(_error_of, dataset_dicts)
        if len(dataset_dicts) >= _LONG:
            checked = tqdm(checked, f"Checking {name}", len(dataset_dicts))
        for image, error in zip(dataset_dicts, checked):
            if error is None:
                continue
            if broken_images is None:
                raise error
            broken_images.meet(image, error, len(dataset_dicts))


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
