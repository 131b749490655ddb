"""A synthetic panoptic dataset: shapes (things) on textured ground (stuff).

It is written in COCO panoptic format into Detectron2's dataset folder, so that what works on it
works on COCO. The same seed gives the same files.
"""

import json
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from .files import folder_written_beside
from .panoptic_map import write_panoptic_png
from .registration import datasets_root, register_with_categories

CATEGORIES: list[dict[str, Any]] = [
    {"id": 1, "name": "circle", "isthing": 1, "color": [220, 20, 60]},
    {"id": 2, "name": "square", "isthing": 1, "color": [0, 110, 230]},
    {"id": 3, "name": "triangle", "isthing": 1, "color": [250, 170, 30]},
    {"id": 4, "name": "star", "isthing": 1, "color": [165, 40, 200]},
    {"id": 11, "name": "stripes", "isthing": 0, "color": [107, 142, 35]},
    {"id": 12, "name": "checks", "isthing": 0, "color": [70, 130, 130]},
    {"id": 13, "name": "dots", "isthing": 0, "color": [190, 153, 153]},
    {"id": 14, "name": "plain", "isthing": 0, "color": [150, 150, 150]},
]
IMAGES_OF_SPLIT = {"train": 12000, "val": 200}
SIDES = (80, 96, 112)  # pixels
_THINGS = [c["id"] for c in CATEGORIES if c["isthing"]]
_STUFF = [c["id"] for c in CATEGORIES if not c["isthing"]]
_GROUND_COLOR = {
    "stripes": (95, 130, 90),
    "checks": (100, 115, 150),
    "dots": (150, 115, 95),
    "plain": (135, 135, 135),
}
_LEAST_VISIBLE = 0.4  # of its area, or a thing is not drawn where it would stand
_DRAWING_SCALE = 4  # shapes are drawn this much larger, for exact edges


def register_shapes() -> None:
    """Register `shapes_panoptic_train` and `shapes_panoptic_val`."""
    for split in IMAGES_OF_SPLIT:
        folder = datasets_root() / "shapes_panoptic"
        panoptic_root = str(folder / f"panoptic_{split}")
        register_with_categories(
            f"shapes_panoptic_{split}",
            str(folder / split),
            panoptic_root,
            f"{panoptic_root}.json",
            CATEGORIES,
        )


def write_shapes(folder: Path, images_of_split: dict[str, int], seed: int = 0) -> None:
    """Write the dataset to `folder`, which appears when it is complete and not before.

    Args:
        images_of_split: number of images of "train" and "val".
        seed: image i of a split is the same whatever the number of images.
    """
    with folder_written_beside(folder) as unfinished:
        for number, (split, count) in enumerate(images_of_split.items()):
            _write_split(unfinished, split, count, (seed, number))


def _write_split(folder: Path, split: str, count: int, seed: tuple[int, int]) -> None:
    (folder / split).mkdir(parents=True)
    (folder / f"panoptic_{split}").mkdir()
    images, annotations = [], []
    for index in tqdm(range(count), f"Drawing shapes_panoptic_{split}"):
        scene = draw_scene(np.random.default_rng((*seed, index)))
        name = f"{index:06d}"
        Image.fromarray(scene.image).save(folder / split / f"{name}.jpg", quality=95)
        write_panoptic_png(folder / f"panoptic_{split}" / f"{name}.png", scene.ids)
        height, width = scene.ids.shape
        image = {"id": index + 1, "file_name": f"{name}.jpg", "height": height, "width": width}
        images.append(image)
        annotations.append(
            {
                "image_id": index + 1,
                "file_name": f"{name}.png",
                "segments_info": _segments_info(scene),
            }
        )
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / f"panoptic_{split}.json").write_text(json.dumps(content))


@dataclass
class ShapesScene:
    """
    Attributes:
        image: (H, W, 3) uint8, RGB.
        ids: (H, W) int32, segment ids from 1; there is no VOID.
        category_of_id: the category of each segment.
    """

    image: np.ndarray
    ids: np.ndarray
    category_of_id: dict[int, int]


def _segments_info(scene: ShapesScene) -> list[dict]:
    infos = []
    for id_, category in scene.category_of_id.items():
        rows, columns = np.nonzero(scene.ids == id_)
        x, y = int(columns.min()), int(rows.min())
        box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
        infos.append(
            {"id": id_, "category_id": category, "area": len(rows), "bbox": box, "iscrowd": 0}
        )
    return infos


def draw_scene(rng: np.random.Generator) -> ShapesScene:
    """Two stuff regions and one to five things, the later ones in front."""
    height, width = (int(x) for x in rng.choice(SIDES, 2))
    first, second = (int(x) for x in rng.choice(_STUFF, 2, replace=False))
    below = _below_a_wave(rng, height, width)
    ids = np.where(below, 2, 1).astype(np.int32)
    image = np.where(
        below[..., None],
        _texture(rng, second, height, width),
        _texture(rng, first, height, width),
    )
    category_of_id = {1: first, 2: second}

    for id_ in range(3, 3 + int(rng.integers(1, 6))):
        category = int(rng.choice(_THINGS))
        mask = _shape(rng, category, height, width)
        if not _leaves_all_visible(ids, mask, category_of_id):
            continue
        ids[mask] = id_
        image[mask] = _vivid_color(rng) + _shading(rng, height, width)[mask]
        category_of_id[id_] = category
    image = image + rng.normal(0, 6, image.shape)
    return ShapesScene(image.clip(0, 255).astype(np.uint8), ids, category_of_id)


def _leaves_all_visible(ids: np.ndarray, mask: np.ndarray, category_of_id: dict) -> bool:
    """Whether `mask` can be drawn and leaves enough to see of what it covers."""
    if mask.sum() < 40:
        return False
    before = np.bincount(ids.ravel(), minlength=max(category_of_id) + 1)
    covered = np.bincount(ids[mask], minlength=len(before))
    return bool((covered <= (1 - _LEAST_VISIBLE) * before).all())


def _below_a_wave(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width) bool: one side of a wavy line across the image."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width]
    along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    across = (y - height / 2) * np.cos(angle) - (x - width / 2) * np.sin(angle)
    wave = rng.uniform(0, 8) * np.sin(along / rng.uniform(6, 20) + rng.uniform(0, 6))
    return across > wave + rng.uniform(-0.2, 0.2) * min(height, width)


def _texture(rng: np.random.Generator, category: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float: each category has a pattern, and dull colours of its own."""
    name = _NAME_OF[category]
    color = np.array(_GROUND_COLOR[name]) + rng.uniform(-30, 30, 3)
    other = color + rng.choice([-1, 1]) * rng.uniform(40, 70)
    angle, period = rng.uniform(0, np.pi), rng.uniform(7, 11)
    y, x = np.mgrid[:height, :width] / period
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    pattern = {
        "stripes": u % 1 < 0.5,
        "checks": (u % 1 < 0.5) ^ (v % 1 < 0.5),
        "dots": (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.1,
        "plain": np.zeros_like(u, dtype=bool),
    }[name]
    return np.where(pattern[..., None], other, color) + _shading(rng, height, width)


def _vivid_color(rng: np.random.Generator) -> np.ndarray:
    return np.array(hsv_to_rgb(*rng.uniform((0, 0.6, 0.6), 1))) * 255


def _shading(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 1) float: a faint linear gradient of brightness."""
    y, x = np.mgrid[:height, :width] / max(height, width) - 0.5
    return (rng.uniform(-25, 25) * x + rng.uniform(-25, 25) * y)[..., None]


def _shape(rng: np.random.Generator, category: int, height: int, width: int) -> np.ndarray:
    """(height, width) bool: one shape of random size, place and rotation."""
    radius = np.exp(rng.uniform(np.log(7), np.log(26)))
    center = rng.uniform(0.1, 0.9, 2) * (width, height)
    turn = rng.uniform(0, 2 * np.pi)
    shapes: dict[str, tuple[int, list[float]]] = {
        "circle": (60, [1]),
        "square": (4, [1]),
        "triangle": (3, [1.2]),
        "star": (10, [1.2, 0.5]),
    }
    corners, radii = shapes[_NAME_OF[category]]
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    reach = radius * np.resize(radii, corners)
    points = center + np.stack((reach * np.cos(angles), reach * np.sin(angles)), axis=1)
    canvas = Image.new("L", (width * _DRAWING_SCALE, height * _DRAWING_SCALE))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in points * _DRAWING_SCALE], fill=255)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX)) >= 128


_NAME_OF = {c["id"]: c["name"] for c in CATEGORIES}
