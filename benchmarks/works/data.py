"""What happens before and after the model: reading an annotated image, and panoptic quality."""

import copy
import os
import tempfile
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator

from detr_d2.data import PanopticDatasetMapper, register_panoptic_dataset
from detr_d2.data.augmentation import OfficialResize
from detr_d2.evaluation.panoptic_evaluation import PanopticEvaluator

from ..inputs import write_dataset
from ..models import detr_cfg, is_thing
from ..reference.data import load
from ..settings import Settings
from ..variants import Variant
from .work import Case, Work

LONGEST = 1333  # pixels, of the official resize


class _OnDisk(Work):
    """A work with a dataset of its own, which is gone when all is measured."""

    device = "cpu"
    images = 1

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.folder = tempfile.TemporaryDirectory(prefix="detr_d2_benchmark_")
        root = Path(self.folder.name)
        things = is_thing(detr_cfg(settings))
        size, segments = settings.image_size, settings.segments
        self.mosaics = write_dataset(root, self.images, size, segments, things)
        self.dataset = f"benchmark_{self.name}_{os.getpid()}"
        paths = (root / "images", root / "panoptic", root / "panoptic.json")
        register_panoptic_dataset(self.dataset, *map(str, paths))

    def close(self) -> None:
        DatasetCatalog.remove(self.dataset)
        MetadataCatalog.remove(self.dataset)
        self.folder.cleanup()


class Loading(_OnDisk):
    """One annotated image for training: read, resize, boxes; neither flip nor crop."""

    name = "loading"
    threads = 1  # as in a worker process of the data loader

    @property
    def title(self) -> str:
        height, width = self.settings.image_size
        return f"loading an image, {height}x{width}, {self.settings.segments} segments, one thread"

    def prepare(self, variant: Variant) -> Case:
        dataset_dict = DatasetCatalog.get(self.dataset)[0]
        length = self.settings.length
        mapper = PanopticDatasetMapper(
            augmentations=[OfficialResize((length,), LONGEST)], image_format="RGB"
        )

        def reference():
            return load(dataset_dict, length, LONGEST)

        def fast():
            return mapper(dataset_dict)

        run = reference if variant.model == "reference" else fast
        return Case(run, run)

    def compare(self, result, reference) -> dict[str, float]:
        maps = [x["segment_map"] if "segment_map" in x else _as_map(x) for x in (result, reference)]
        boxes = [x["instances"].gt_boxes.tensor for x in (result, reference)]
        images = [x["image"].int() for x in (result, reference)]
        return {
            "pixels_per_10000": 10_000 * float((maps[0] != maps[1]).double().mean()),
            "box_pixels": float((boxes[0] - boxes[1]).abs().max()),
            "grey_levels": float((images[0] - images[1]).abs().max()),
        }


def _as_map(loaded: dict) -> torch.Tensor:
    numbers = torch.arange(1, len(loaded["masks"]) + 1)
    return (loaded["masks"] * numbers[:, None, None]).sum(0)


class Evaluation(_OnDisk):
    """Panoptic quality of predictions that are the ground truth, moved by a few pixels.

    The reference is Detectron2's evaluator, which calls the COCO panoptic API.
    """

    name = "evaluation"

    def __init__(self, settings: Settings):
        self.images = settings.evaluated
        super().__init__(settings)

    @property
    def title(self) -> str:
        height, width = self.settings.image_size
        return f"panoptic quality of {self.images} images, {height}x{width}"

    def prepare(self, variant: Variant) -> Case:
        inputs = DatasetCatalog.get(self.dataset)
        things = MetadataCatalog.get(self.dataset).thing_dataset_id_to_contiguous_id.values()
        outputs = []
        for mosaic in self.mosaics:
            infos = [
                {"id": t, "category_id": label, "isthing": label in things}
                for t, label in enumerate(mosaic.labels, 1)
            ]
            moved = torch.from_numpy(mosaic.numbers).roll((5, 5), (0, 1))
            outputs.append({"panoptic_seg": (moved, infos)})
        is_reference = variant.model == "reference"
        kind = COCOPanopticEvaluator if is_reference else PanopticEvaluator
        evaluator = kind(self.dataset, os.path.join(self.folder.name, "results"))

        def run():
            evaluator.reset()
            # Detectron2's evaluator changes what it is given.
            given = copy.deepcopy(outputs) if is_reference else outputs
            for x, output in zip(inputs, given):  # one image at a time, as they come
                evaluator.process([x], [output])
            results = evaluator.evaluate()
            assert results is not None
            return results["panoptic_seg"]

        return Case(run, run)

    def compare(self, result, reference) -> dict[str, float]:
        names = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st")
        return {"pq_points": max(abs(result[name] - reference[name]) for name in names)}
