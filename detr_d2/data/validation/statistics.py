"""What is in a dataset, and the configuration that suits it."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ..depth import ALL_GREY_LEVELS, GreyLevels
from .inspection import Inspection

_OFFICIAL_QUERIES = 100
_MARGIN = 1.5  # queries to every segment of the fullest image; the paper has 100 for up to 63


def statistics(inspections: list[Inspection], categories: list[dict]) -> str:
    """Segments of an image, sizes, and a table of the classes, in words.

    Images whose PNG cannot be used, or has ids of another form, are named and not counted.
    """
    known = [i for i in inspections if i.void is not None]
    if not known:
        what = f"PNG of the {len(inspections)} images" if inspections else "image"
        return f"No {what} could be used, so that nothing is counted."
    unknown = len(inspections) - len(known)
    left_out = [f"Not counted: {unknown} images whose PNG could not be used."] if unknown else []
    inspections = known
    counts = [len(i.areas) for i in inspections]
    sizes = sorted({(i.image["width"], i.image["height"]) for i in inspections})
    pixels = sum(i.image["width"] * i.image["height"] for i in inspections)
    void = sum(i.void or 0 for i in inspections)
    segments = [
        (i.image["id"], s["category_id"], area)
        for i in inspections
        for s, area in zip(_segments(i), i.areas)
    ]
    crowd = sum(s.get("iscrowd", 0) == 1 for i in inspections for s in _segments(i))
    lines = [
        *left_out,
        f"{len(inspections)} images, {sum(counts)} segments ({crowd} of them crowd).",
        f"Segments of an image: {min(counts)} at least, {np.median(counts):g} in the middle, "
        f"{max(counts)} at most; {counts.count(0)} images have none.",
        "Sizes: " + _text_of_sizes(sizes) + ".",
        f"VOID: {void / pixels:.1%} of all pixels.",
        "",
        class_table(segments, categories, pixels),
    ]
    return "\n".join(lines)


def suitable_queries(most_segments: int) -> int:
    """Queries for images of up to so many segments.

    The official 100 wherever they leave a margin, since then the query embeddings of COCO weights
    fit; or else the margin, rounded up to tens.
    """
    needed = int(np.ceil(_MARGIN * most_segments / 10)) * 10
    return max(_OFFICIAL_QUERIES, needed)


def config_lines(
    inspections: list[Inspection],
    categories: list[dict],
    paths: tuple[str, str, str],
    levels: GreyLevels = ALL_GREY_LEVELS,
) -> str:
    """The lines of a YAML that use the dataset, and the same for the command line.

    Args:
        paths: of images, PNGs and JSON.
        levels: of images of 16 bits.
    """
    paths = [os.path.abspath(path) for path in paths]
    name = dataset_name(paths[2])
    listed = (len(_segments(i)) for i in inspections)
    queries = suitable_queries(max(listed, default=0))
    of_input = {name.upper(): level for name, level in levels.options.items()}
    input_keys = "".join(f"INPUT.{key} {level} " for key, level in of_input.items())
    yaml = [
        *(["INPUT:"] if of_input else []),
        *(f"  {key}: {level}" for key, level in of_input.items()),
        "MODEL:",
        "  DETR:",
        f"    NUM_CLASSES: {len(categories)}",
        f"    NUM_OBJECT_QUERIES: {queries}",
        "DATASETS:",
        f'  TRAIN: ("{name}",)',
        "  REGISTER:",
        f"    {name}:",
        *(f'      - "{path}"' for path in paths),
    ]
    command = (
        f"{input_keys}MODEL.DETR.NUM_CLASSES {len(categories)} "
        f"MODEL.DETR.NUM_OBJECT_QUERIES {queries} "
        f"""DATASETS.REGISTER.{name} "{paths}" """
        f"""DATASETS.TRAIN "('{name}',)\""""
    )
    return "\n".join(["In a configuration:", *yaml, "", "Or on the command line:", command])


def dataset_name(panoptic_json: str) -> str:
    """A name for a dataset: `camvid_train` for .../camvid/panoptic_train.json."""
    path = Path(panoptic_json)
    return re.sub(r"\W", "_", f"{path.parent.name}_{path.stem.removeprefix('panoptic_')}")


def _segments(inspection: Inspection) -> list[dict]:
    return inspection.annotation["segments_info"]


def _text_of_sizes(sizes: list[tuple[int, int]]) -> str:
    if len(sizes) <= 3:
        return ", ".join(f"{w} x {h}" for w, h in sizes)
    widths, heights = zip(*sizes)
    return (
        f"{len(sizes)} different ones, {min(widths)} to {max(widths)} wide and "
        f"{min(heights)} to {max(heights)} high"
    )


def table_of_classes(content: dict) -> str:
    """The table of the classes, of a panoptic JSON that says the truth."""
    pixels = sum(image["height"] * image["width"] for image in content["images"])
    segments = (
        (annotation["image_id"], segment["category_id"], segment["area"])
        for annotation in content["annotations"]
        for segment in annotation["segments_info"]
    )
    return class_table(segments, content["categories"], pixels)


def class_table(
    segments: Iterable[tuple[int | str, int, int]], categories: list[dict], pixels: int
) -> str:
    """A row for each class.

    Args:
        segments: image id, category id and area of each.
        pixels: of all images.
    """
    areas, images = defaultdict(list), defaultdict(set)
    for image_id, category_id, area in segments:
        areas[category_id].append(area)
        images[category_id].add(image_id)
    rows = []
    for category in sorted(categories, key=lambda c: (not c["isthing"], c["id"])):
        found = areas[category["id"]]
        rows.append(
            [
                category["id"],
                category["name"],
                "thing" if category["isthing"] else "stuff",
                len(found),
                len(images[category["id"]]),
                f"{np.median(found):.0f}" if found else "-",
                f"{sum(found) / pixels:.2%}",
            ]
        )
    headers = ["id", "class", "", "segments", "images", "median area", "pixels"]
    return tabulate(rows, headers, tablefmt="simple")
