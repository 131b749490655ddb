"""Checks before the first iteration, of what would otherwise stop training in the middle."""

import os
from concurrent.futures import ThreadPoolExecutor

from detectron2.utils.file_io import PathManager
from PIL import Image
from tqdm import tqdm

from ..errors import UserError

_EXIF_ORIENTATION = 0x0112
_LONG = 2000  # images, from which on there is a progress bar


def check_dataset(dataset_dicts: list[dict], name: str) -> None:
    """Check that a dataset has images, that its files exist, and that sizes agree.

    Only the files' headers are read. Whether JSON and PNG list the same segments is seen when an
    image is loaded, see `PanopticDatasetMapper`.

    Raises:
        UserError: the first thing that is wrong.
    """
    if not dataset_dicts:
        raise UserError(
            f"Dataset {name} has no images: check the `annotations` of its JSON, or take it out "
            "of DATASETS.TRAIN and DATASETS.TEST."
        )
    with ThreadPoolExecutor() as pool:
        checked = pool.map(_check_files, dataset_dicts)
        hidden = len(dataset_dicts) < _LONG
        for _ in tqdm(checked, f"Checking {name}", len(dataset_dicts), disable=hidden):
            pass


def _check_files(dataset_dict: dict) -> None:
    where = f"(image {dataset_dict['image_id']})"
    image = dataset_dict["file_name"]
    size = _size(image, where)
    if "pan_seg_file_name" not in dataset_dict:
        return
    png = dataset_dict["pan_seg_file_name"]
    png_size = _size(png, where)
    if size != png_size:
        raise UserError(
            f"{png} {where} is {_text(png_size)} pixels, but its image {image} is {_text(size)}: "
            "make them the same size."
        )


def _size(path: str, where: str) -> tuple[int, int]:
    """(width, height) of an image file, from its header."""
    path = PathManager.get_local_path(path)
    if not os.path.isfile(path):
        raise UserError(f"{path} {where} does not exist: put it there, or correct the JSON.")
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            return image.size[::-1] if turned else image.size
    except OSError as error:
        raise UserError(f"{path} {where} is not an image: {error}.") from error


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
