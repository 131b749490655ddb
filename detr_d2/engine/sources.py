"""Where images to be drawn come from: files, folders, globs, or a dataset with ground truth."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, Metadata

from ..data.depth import ALL_GREY_LEVELS, GreyLevels
from ..data.images import find_image_files, read_image
from ..data.panoptic_map import read_segment_map
from ..drawing import draw_panoptic
from ..errors import UserError


@dataclass(frozen=True)
class ImageSource:
    """An image that can be read when it is its turn.

    Attributes:
        path: of the image file.
        name: of the picture that is drawn of it, a relative path without suffix.
        dataset_dict: what a dataset says of it, ground truth included.
        levels: see `read_image`.
    """

    path: str
    name: str
    dataset_dict: dict | None = None
    levels: GreyLevels = ALL_GREY_LEVELS

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return read_image(self.path, levels=self.levels)

    @property
    def of_dataset(self) -> dict:
        """`dataset_dict` of an image that a dataset has."""
        assert self.dataset_dict is not None, "the image is of no dataset"
        return self.dataset_dict

    def ground_truth(self, image: np.ndarray, metadata: Metadata) -> list[tuple[str, np.ndarray]]:
        """A titled picture of the ground truth; none for an image that has no such thing."""
        if self.dataset_dict is None:
            return []
        segments_info = self.dataset_dict["segments_info"]
        infos = [{**info, "id": t} for t, info in enumerate(segments_info, 1)]
        segment_map = torch.from_numpy(read_segment_map(self.dataset_dict).astype(np.int32))
        return [("ground truth", draw_panoptic(image, segment_map, infos, metadata))]


def find_images(patterns: list[str], levels: GreyLevels = ALL_GREY_LEVELS) -> list[ImageSource]:
    """The images that files, folders (with their sub-folders) and globs name.

    Raises:
        UserError: where one of them names no image.
    """
    sources: dict[str, ImageSource] = {}
    for pattern in patterns:
        folder = Path(pattern)
        if folder.is_dir():
            paths = [folder / name for name in find_image_files(folder)]
        else:
            paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
        if not paths:
            raise UserError(f"{pattern} names no image: give files, a folder, or a glob in quotes.")
        for path in paths:
            name = path.relative_to(folder) if folder.is_dir() else Path(path.name)
            sources.setdefault(
                str(path), ImageSource(str(path), str(name.with_suffix("")), levels=levels)
            )
    return _with_unique_names(list(sources.values()))


def _with_unique_names(sources: list[ImageSource]) -> list[ImageSource]:
    """Number the names that are taken already, so that no picture overwrites another."""
    taken: set[str] = set()
    unique = []
    for source in sources:
        name, number = source.name, 2
        while name in taken:
            name, number = f"{source.name}-{number}", number + 1
        taken.add(name)
        unique.append(replace(source, name=name))
    return unique


def dataset_images(name: str, levels: GreyLevels = ALL_GREY_LEVELS) -> list[ImageSource]:
    """The images of a registered panoptic dataset, with their ground truth."""
    if name not in DatasetCatalog.list():
        raise UserError(
            f"There is no dataset {name}: name one of DATASETS or "
            "DATASETS.REGISTER whose files are there."
        )
    dicts = DatasetCatalog.get(name)
    if any("pan_seg_file_name" not in d for d in dicts):
        raise UserError(f"Dataset {name} has no panoptic ground truth: give its images as --input.")
    return _with_unique_names(
        [ImageSource(d["file_name"], Path(d["file_name"]).stem, d, levels) for d in dicts]
    )


def evenly(total: int, count: int) -> list[int]:
    """`count` places of `total`, in equal steps from the first to the last; at most all."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def chunks(items: list, size: int) -> Iterator[list]:
    """Lists of `size` items, in order; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
