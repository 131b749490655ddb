"""Panoptic quality of predictions that are files, beside panopticapi."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detr_d2.data.files import read_json
from detr_d2.data.panoptic_map import read_panoptic_png, write_panoptic_png
from detr_d2.evaluation.panoptic_files import PanopticGroundTruth, evaluate_files
from detr_d2.evaluation.panoptic_quality import PanopticQuality, match_segments

from ..settings import Settings
from ..variants import Variant
from .work import Case, Work

_CATEGORIES = [{"id": i, "name": f"class {i}", "isthing": int(i <= 5)} for i in range(1, 9)]


class QualityOfFiles(Work):
    """From the files of truth and prediction to PQ; ours reads them in threads.

    The reference is panopticapi in one process.
    """

    name = "quality-files"
    what = "from files"
    device = "cpu"

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.folder = tempfile.TemporaryDirectory(prefix="detr_d2_benchmark_")
        files = write_random_files(Path(self.folder.name), settings.evaluated, settings.image_size)
        truth_json, self.truth_root, self.found_json, self.found_root = files
        self.truth = PanopticGroundTruth(truth_json, self.truth_root)
        found_of = {a["image_id"]: a for a in read_json(self.found_json)["annotations"]}
        self.pairs = [(a, found_of[image_id]) for image_id, a in self.truth.annotation_of.items()]
        self.categories = {category["id"]: category for category in self.truth.categories}

    @property
    def title(self) -> str:
        height, width = self.settings.image_size
        return f"panoptic quality {self.what}, {len(self.pairs)} images, {height}x{width}"

    def prepare(self, variant: Variant) -> Case:
        run = self.reference if variant.model == "reference" else self.ours()
        return Case(run, run)

    def reference(self) -> float:
        """PQ of all classes."""
        from panopticapi.evaluation import pq_compute_single_core

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            stat = pq_compute_single_core(
                0, self.pairs, self.truth_root, self.found_root, self.categories
            )
        return float(stat.pq_average(self.categories, None)[0]["pq"])

    def ours(self) -> Callable[[], float]:
        """What gives the same."""

        def run() -> float:
            found = evaluate_files(self.truth, self.found_json, self.found_root, progress=False)
            return float(found[0].per_class().mean().pq)

        return run

    def compare(self, result, reference) -> dict[str, float]:
        return {"pq_points": 100 * abs(result - reference)}

    def close(self) -> None:
        self.folder.cleanup()


class QualityInMemory(QualityOfFiles):
    """The comparison alone, of maps that are in memory; the reference knows files alone."""

    name = "quality-memory"
    what = "in memory, of the reference from files"

    def ours(self) -> Callable[[], float]:
        """From maps that were read before."""
        roots = (self.truth_root, self.found_root)
        maps = [
            [read_panoptic_png(os.path.join(r, a["file_name"])) for r, a in zip(roots, pair)]
            for pair in self.pairs
        ]

        def run() -> float:
            quality = PanopticQuality(list(self.categories))
            for pair, (truth_map, found_map) in zip(self.pairs, maps):
                infos = [annotation["segments_info"] for annotation in pair]
                quality.add(match_segments(truth_map, infos[0], found_map, infos[1], "image"))
            return float(quality.per_class().mean().pq)

        return run


def write_random_files(
    folder: Path, count: int, size: tuple[int, int], seed: int = 0
) -> tuple[str, ...]:
    """Random maps of 11 to 20 segments, some VOID and crowd, and predictions that resemble them.

    Returns:
        The JSON and the folder of PNGs of the truth, and of what was found.
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
