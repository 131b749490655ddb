"""Small panoptic datasets, and what a written one says, by slow and obvious means."""

import json
from pathlib import Path

import numpy as np
from panoptic_png import id2rgb, rgb2id
from PIL import Image


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_noise(path: Path, height: int, width: int, seed: int = 0) -> None:
    """An image of random colours."""
    random = np.random.default_rng(seed)
    save(path, random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def save_ids(path: Path, ids: np.ndarray) -> None:
    save(path, id2rgb(ids))


def read_written(folder: Path, name: str = "train") -> dict[str, list[tuple]]:
    """Of each image by file name: (category, iscrowd, set of pixels) of each segment.

    Areas and boxes are checked against a loop over the pixels, and each pixel of the PNG is in a
    segment or VOID.
    """
    content = json.loads((folder / f"panoptic_{name}.json").read_text())
    names = {image["id"]: image for image in content["images"]}
    found = {}
    for annotation in content["annotations"]:
        image = names[annotation["image_id"]]
        ids = rgb2id(np.asarray(Image.open(folder / f"panoptic_{name}" / annotation["file_name"])))
        assert ids.shape == (image["height"], image["width"])
        pixels_of: dict[int, set] = {}
        for row, column in np.ndindex(ids.shape):
            pixels_of.setdefault(int(ids[row, column]), set()).add((row, column))
        pixels_of.pop(0, None)
        segments = []
        for info in annotation["segments_info"]:
            pixels = pixels_of.pop(info["id"])
            rows, columns = zip(*pixels)
            width, height = max(columns) + 1 - min(columns), max(rows) + 1 - min(rows)
            assert info["bbox"] == [min(columns), min(rows), width, height]
            assert info["area"] == len(pixels)
            segments.append((info["category_id"], info["iscrowd"], frozenset(pixels)))
        assert not pixels_of
        found[image["file_name"]] = segments
    return found


def pixels_of_rows(*rows: int, width: int) -> frozenset:
    return frozenset((row, column) for row in rows for column in range(width))


def all_bytes(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
