"""Panoptic quality of a model's predictions, whatever the number of processes."""

import logging
import os
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..data.files import join_inside, write_json
from ..data.panoptic_map import write_panoptic_png
from ..errors import UserError
from .panoptic_files import ImageResult, PanopticGroundTruth
from .panoptic_quality import PanopticQuality
from .panoptic_report import as_json, metrics, table

logger = logging.getLogger(__name__)

_LARGEST_ID = 2**24 - 1  # of a panoptic PNG
_THREADS = 2
_MOST_PENDING = 8  # images, whose maps are kept in memory


class PanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ of `panoptic_seg`, of DETR's as of Panoptic FPN's.

    Every process compares its images, and writes what was found, in threads of its own while the
    model goes on. `output_dir` gets `panoptic/`, the predictions as PNGs named as those of the
    ground truth, `predictions.json` beside them (both COCO's result format), and
    `panoptic_quality.json` with all the numbers.
    """

    def __init__(self, dataset_name: str, output_dir: str, ignore_model_labels: bool = False):
        """
        Args:
            dataset_name: its metadata has `panoptic_json`, `panoptic_root` and
                `{thing,stuff}_dataset_id_to_contiguous_id`, in one range of classes or, as for
                Panoptic FPN, in two; `isthing` of a segment says which of the two its class is in.
            output_dir: a folder of this dataset alone.
            ignore_model_labels: see `PanopticGroundTruth`.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._truth = PanopticGroundTruth(
            PathManager.get_local_path(metadata.panoptic_json),
            PathManager.get_local_path(metadata.panoptic_root),
            ignore_model_labels,
        )
        self._category_of = {
            True: {c: id_ for id_, c in metadata.thing_dataset_id_to_contiguous_id.items()},
            False: {c: id_ for id_, c in metadata.stuff_dataset_id_to_contiguous_id.items()},
        }
        self._threads = ThreadPoolExecutor(_THREADS)
        self._pending: deque[Future] = deque()
        self.reset()

    def reset(self) -> None:
        """Forget all images; waits for those that are being compared."""
        for job in self._pending:
            job.cancel()
        wait(self._pending)  # what has begun would write beside the results of what comes next
        self._pending.clear()
        self._results: list[ImageResult] = []
        self._annotations: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: `image_id` of each image.
            outputs: `panoptic_seg` of each: (H, W) integer ids, 0 = VOID, and `segments_info`
                with `id`, `category_id` (contiguous) and `isthing`. They are left as they are.

        Raises:
            UserError: where an image cannot be compared; this may be a later call, or `evaluate`.
        """
        for input_, output in zip(inputs, outputs):
            image_id = input_["image_id"]
            panoptic_seg, segments_info = output["panoptic_seg"]
            infos = [self._with_category_id(info, image_id) for info in segments_info]
            found_map = _integer_map(panoptic_seg, image_id)
            job = self._threads.submit(self._compare_and_write, image_id, found_map, infos)
            self._pending.append(job)
        self._collect(_MOST_PENDING)

    def _collect(self, most_pending: int) -> None:
        while len(self._pending) > most_pending:
            result, annotation = self._pending.popleft().result()
            self._results.append(result)
            self._annotations.append(annotation)

    def evaluate(self) -> OrderedDict | None:
        """
        Returns:
            On the main process {"panoptic_seg": metrics in percent}: PQ, SQ, RQ, each also with
            `_th` (things), `_st` (stuff), `_small`, `_medium` and `_large`, and PQ-NAME of each
            class. NaN where there is no segment.
        """
        self._collect(0)
        comm.synchronize()
        results = list(chain(*comm.gather(self._results)))
        annotations = list(chain(*comm.gather(self._annotations)))
        if not comm.is_main_process():
            return None
        self._truth.check_complete((result.image_id for result in results), self._dataset_name)
        categories = self._truth.categories
        quality = PanopticQuality([category["id"] for category in categories])
        for result in results:
            quality.add(result.match)
        report = as_json(quality, categories, results, self._dataset_name)
        predictions = {"annotations": annotations, "categories": categories}
        PathManager.mkdirs(self._output_dir)
        write_json(os.path.join(self._output_dir, "predictions.json"), predictions)
        write_json(os.path.join(self._output_dir, "panoptic_quality.json"), report)
        if report["remarks"]:
            logger.warning(
                "%d remarks on maps that do not fit their segments_info, such as: %s",
                len(report["remarks"]),
                report["remarks"][0],
            )
        logger.info("Panoptic quality (percent):\n%s", table(quality, categories))
        return OrderedDict(panoptic_seg=metrics(quality, categories))

    def _with_category_id(self, info: dict, image_id) -> dict:
        """What COCO's format wants of a predicted segment."""
        isthing, class_ = bool(info["isthing"]), int(info["category_id"])
        if class_ not in self._category_of[isthing]:
            raise UserError(
                f"{self._dataset_name}, image {image_id}: the model found the class {class_} as "
                f"{'a thing' if isthing else 'stuff'}, which the dataset does not have: evaluate "
                "on a dataset with the model's classes."
            )
        prediction = {"id": int(info["id"]), "category_id": self._category_of[isthing][class_]}
        if "score" in info:
            prediction["score"] = float(info["score"])
        return prediction

    def _compare_and_write(
        self, image_id, found_map: np.ndarray, infos: list[dict]
    ) -> tuple[ImageResult, dict]:
        """Compare one image, write its PNG, and give its annotation as well."""
        result = self._truth.match(image_id, found_map, infos)
        name = os.path.splitext(result.file_name)[0] + ".png"
        path = join_inside(os.path.join(self._output_dir, "panoptic"), name, self._dataset_name)
        found = result.match.found
        areas = dict(zip(found.ids.tolist(), found.areas.tolist()))
        if np.count_nonzero(found_map) > found.areas.sum():  # a segment is not listed
            found_map = np.where(np.isin(found_map, found.ids), found_map, 0)
        write_panoptic_png(path, found_map, compress_level=1)  # written while the model runs
        infos = [{**i, "area": areas[i["id"]], "iscrowd": 0} for i in infos if i["id"] in areas]
        return result, {"image_id": image_id, "file_name": name, "segments_info": infos}


def _integer_map(panoptic_seg: torch.Tensor, image_id) -> np.ndarray:
    """A copy of the map, which its owner may change before it is compared."""
    found_map = panoptic_seg.cpu().numpy()
    if found_map.dtype.kind not in "iu" or found_map.max(initial=0) > _LARGEST_ID:
        raise UserError(
            f"Image {image_id}: the panoptic map has the type {found_map.dtype} and ids up to "
            f"{found_map.max(initial=0)}: use integers below 2^24."
        )
    return found_map.astype(np.int32)
