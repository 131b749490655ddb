"""Images with panoptic ground truth, drawn at any size and with any number of segments."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from detr_d2.data.panoptic_fpn_mapper import instances_of_things, map_of_stuff
from detr_d2.data.panoptic_map import boxes_of_segments, measure_segments, write_panoptic_png


@dataclass(frozen=True)
class Mosaic:
    """
    Attributes:
        image: (H, W, 3) uint8, RGB.
        numbers: (H, W) int32, t + 1 at segment t; there is no VOID.
        labels: of each segment, contiguous; things and stuff in turn.
    """

    image: np.ndarray
    numbers: np.ndarray
    labels: list[int]


def draw_mosaic(seed: int, size: tuple[int, int], segments: int, is_thing: list[bool]) -> Mosaic:
    """Every segment is what lies nearest to its centre, and has a colour and a grain."""
    rng = np.random.default_rng(seed)
    height, width = size
    centres = rng.choice(height * width, segments, replace=False)
    y, x = np.mgrid[:height, :width]
    squares = [(y - c // width) ** 2 + (x - c % width) ** 2 for c in centres]
    numbers = np.argmin(squares, axis=0).astype(np.int32) + 1
    image = rng.uniform(40, 215, (segments, 3))[numbers - 1] + rng.normal(0, 12, (height, width, 1))
    kinds = [[c for c, thing in enumerate(is_thing) if thing is kind] for kind in (True, False)]
    labels = [int(rng.choice(kinds[n % 2])) for n in range(segments)]
    return Mosaic(image.clip(0, 255).astype(np.uint8), numbers, labels)


def model_input(mosaic: Mosaic, image_size: tuple[int, int]) -> dict:
    """What all DETR variants take, in training and at inference.

    Args:
        image_size: (height, width) of the original image, pixels.
    """
    _, boxes = boxes_of_segments(mosaic.numbers, len(mosaic.labels))
    instances = Instances(mosaic.numbers.shape)
    instances.gt_boxes = Boxes(torch.from_numpy(boxes))
    instances.gt_classes = torch.tensor(mosaic.labels)
    instances.gt_is_crowd = torch.zeros(len(mosaic.labels), dtype=torch.bool)
    segment_map = torch.from_numpy(mosaic.numbers)
    return {
        "image": torch.from_numpy(mosaic.image).permute(2, 0, 1).contiguous(),
        "instances": instances,
        "segment_map": segment_map,
        "masks": segment_map == torch.arange(1, len(mosaic.labels) + 1)[:, None, None],
        "height": image_size[0],
        "width": image_size[1],
    }


def panoptic_fpn_input(x: dict, is_thing: list[bool]) -> dict:
    """The same for Panoptic FPN: things as instances, stuff as a map where 0 says thing."""
    segments, segment_map = x["instances"], x["segment_map"]
    things, stuff = ([c for c, t in enumerate(is_thing) if t is kind] for kind in (True, False))
    return {
        "image": x["image"].flip(0),
        "instances": instances_of_things(segments, segment_map, things),
        "sem_seg": map_of_stuff(segments.gt_classes, segment_map, stuff, ignore_value=255),
        "height": x["height"],
        "width": x["width"],
    }


def write_dataset(
    folder: Path, count: int, size: tuple[int, int], segments: int, is_thing: list[bool]
) -> list[Mosaic]:
    """Write mosaics in COCO panoptic format: images/, panoptic/ and panoptic.json.

    Category ids are the contiguous classes and 1. Segment t of an image has the id 1000 (t + 1),
    so that all three channels of the PNG are in use.
    """
    mosaics = [draw_mosaic(seed, size, segments, is_thing) for seed in range(count)]
    for name in ("images", "panoptic"):
        (folder / name).mkdir()
    images, annotations = [], []
    for n, mosaic in enumerate(mosaics, 1):
        Image.fromarray(mosaic.image).save(folder / "images" / f"{n}.jpg", quality=95)
        write_panoptic_png(folder / "panoptic" / f"{n}.png", mosaic.numbers * 1000)
        image = {"id": n, "file_name": f"{n}.jpg", "height": size[0], "width": size[1]}
        images.append(image)
        measured = measure_segments(mosaic.numbers, segments)
        infos = [
            {
                "id": 1000 * t,
                "category_id": label + 1,
                "area": area,
                "bbox": box,
                "iscrowd": 0,
            }
            for t, (label, (area, box)) in enumerate(zip(mosaic.labels, measured), 1)
        ]
        annotations.append({"image_id": n, "file_name": f"{n}.png", "segments_info": infos})
    categories = [
        {"id": label + 1, "name": f"class {label}", "isthing": int(thing)}
        for label, thing in enumerate(is_thing)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return mosaics
