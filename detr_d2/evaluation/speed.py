"""How long panoptic quality takes, beside panopticapi."""

import contextlib
import io
import json
import os
import time
from pathlib import Path

import numpy as np

from ..data.files import read_json
from ..data.panoptic_map import read_panoptic_png, write_panoptic_png
from ..requirements import require
from .panoptic_files import PanopticGroundTruth, evaluate_files
from .panoptic_quality import PanopticQuality, match_segments

_CATEGORIES = [{"id": i, "name": f"class {i}", "isthing": int(i <= 5)} for i in range(1, 9)]


def compare_speed(
    truth_json: str, truth_root: str, found_json: str, found_root: str, rounds: int
) -> dict:
    """Time both on the same files, in turn.

    Args:
        truth_json, truth_root, found_json, found_root: COCO panoptic JSONs and folders of PNGs.
        rounds: times that each is run, after one that does not count.

    Returns:
        `images`: how many.
        `milliseconds`: of each way, those of every round, an image; processor time except for
        the two that use several processes or threads, which are wall time.
        `pq`: of each way, between 0 and 1.
    """
    ways = _ways(truth_json, truth_root, found_json, found_root)
    images = len(read_json(truth_json)["annotations"])
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    pq = {}
    for number in range(rounds + 1):
        for name, (way, clock) in ways.items():
            start = clock()
            with contextlib.redirect_stdout(io.StringIO()):  # panopticapi prints its progress
                pq[name] = way()
            if number:
                milliseconds[name].append(1000 * (clock() - start) / images)
    pq = {name: float(x) for name, x in pq.items() if x is not None}
    return {"images": images, "milliseconds": milliseconds, "pq": pq}


def _ways(truth_json: str, truth_root: str, found_json: str, found_root: str) -> dict[str, tuple]:
    """By name a function that gives PQ, or None, and the clock that it is timed by."""
    require("panopticapi", "The comparison of speed")
    from panopticapi.evaluation import pq_compute, pq_compute_single_core

    truth = PanopticGroundTruth(truth_json, truth_root)
    categories = {category["id"]: category for category in truth.categories}
    found_of = {a["image_id"]: a for a in read_json(found_json)["annotations"]}
    pairs = [(a, found_of[image_id]) for image_id, a in truth.annotation_of.items()]

    def read(pair: tuple[dict, dict]) -> tuple[np.ndarray, ...]:
        files = zip((truth_root, found_root), pair)
        return tuple(read_panoptic_png(os.path.join(root, a["file_name"])) for root, a in files)

    maps = [read(pair) for pair in pairs]

    def single_core():
        stat = pq_compute_single_core(0, pairs, truth_root, found_root, categories)
        return stat.pq_average(categories, None)[0]["pq"]

    def multi_core():
        return pq_compute(truth_json, found_json, truth_root, found_root)["All"]["pq"]

    def from_files():
        quality, _ = evaluate_files(truth, found_json, found_root, progress=False)
        return quality.per_class().mean().pq

    def from_memory():
        quality = PanopticQuality(list(categories))
        for pair, (truth_map, found_map) in zip(pairs, maps):
            infos = [annotation["segments_info"] for annotation in pair]
            quality.add(match_segments(truth_map, infos[0], found_map, infos[1], "image"))
        return quality.per_class().mean().pq

    def reading():
        for pair in pairs:
            read(pair)

    return {
        "panopticapi, one process": (single_core, time.process_time),
        "panopticapi, all processes": (multi_core, time.perf_counter),
        "ours, from files, processor": (from_files, time.process_time),
        "ours, from files, wall": (from_files, time.perf_counter),
        "ours, prediction and truth in memory": (from_memory, time.process_time),
        "reading both PNGs": (reading, time.process_time),
    }


def write_random_files(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> tuple:
    """Random maps of 11 to 20 segments, some VOID and crowd, and predictions that resemble them.

    Returns:
        The first four arguments of `compare_speed`.
    """
    rng = np.random.default_rng(seed)
    content = {kind: {"categories": _CATEGORIES, "annotations": []} for kind in ("truth", "found")}
    for image_id in range(count):
        segments = int(rng.integers(11, 21))
        centers = rng.uniform(size=(segments, 2)) * size
        categories = rng.integers(1, len(_CATEGORIES) + 1, segments)
        for kind, shift in (("truth", 0), ("found", 15)):
            cells = _cells(centers + rng.normal(0, 1, centers.shape) * shift, size)
            ids = rng.choice(2**24 - 1, segments, replace=False) + 1
            if kind == "truth":
                ids[0] = 0
            write_panoptic_png(str(folder / kind / f"{image_id}.png"), ids[cells])
            areas = np.bincount(cells.ravel(), minlength=segments)
            infos = [
                {
                    "id": int(ids[t]),
                    "category_id": int(categories[t]),
                    "area": int(areas[t]),
                    "iscrowd": int(kind == "truth" and t == 1),
                }
                for t in np.flatnonzero(areas)
                if ids[t]
            ]
            annotation = {"image_id": image_id, "file_name": f"{image_id}.png"}
            content[kind]["annotations"].append({**annotation, "segments_info": infos})
    for kind in content:
        (folder / f"{kind}.json").write_text(json.dumps(content[kind]))
    paths = [(str(folder / f"{kind}.json"), str(folder / kind)) for kind in ("truth", "found")]
    return (*paths[0], *paths[1])


def _cells(centers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) places of the nearest of wavy cells."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    y, x = y + 6 * np.sin(x / 17), x + 6 * np.sin(y / 13)
    return ((y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2).argmin(-1)
