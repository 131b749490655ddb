"""Panoptic quality, by Detectron2's evaluator and panopticapi, with a row for every class."""

import contextlib
import io
import json
import logging
import os
import tempfile
from collections import OrderedDict

from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from panopticapi.evaluation import PQStat, pq_compute_multi_core
from tabulate import tabulate

from ..errors import UserError

logger = logging.getLogger(__name__)

_KINDS = {"": None, "_th": True, "_st": False}  # suffix of a metric: whether only things count


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's `COCOPanopticEvaluator`, with PQ, SQ and RQ of each class.

    Beyond that, images whose base names are equal do not overwrite each other, the model's
    `segments_info` are left as they were, images without a prediction are an error that names
    them, and a dataset may have no things or no stuff.
    """

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for input_, output in zip(inputs, outputs):
            # The name of a temporary file, one for every image of every process.
            name = f"{comm.get_rank()}-{len(self._predictions)}"
            panoptic_seg, segments_info = output["panoptic_seg"]
            segments_info = [
                {key: info[key] for key in ("id", "category_id", "isthing")}
                for info in segments_info
            ]
            super().process(
                [{"file_name": name, "image_id": input_["image_id"]}],
                [{"panoptic_seg": (panoptic_seg, segments_info)}],
            )

    def evaluate(self) -> OrderedDict | None:
        """
        Returns:
            On the main process {"panoptic_seg": metrics in percent}: PQ, SQ, RQ, each also with
            `_th` (things) and `_st` (stuff), and PQ-NAME of each class. NaN where no class has
            a segment.
        """
        comm.synchronize()
        predictions = [p for some in comm.gather(self._predictions) for p in some]
        if not comm.is_main_process():
            return None
        with open(self._metadata.panoptic_json) as f:
            ground_truth = json.load(f)
        categories = {c["id"]: c for c in ground_truth["categories"]}
        pairs = _pair_by_image(ground_truth["annotations"], predictions, self._metadata.name)
        with tempfile.TemporaryDirectory(prefix="panoptic_eval") as folder:
            for prediction in predictions:
                with open(os.path.join(folder, prediction["file_name"]), "wb") as f:
                    f.write(prediction["png_string"])
            with contextlib.redirect_stdout(io.StringIO()):
                stat = pq_compute_multi_core(
                    pairs, self._metadata.panoptic_root, folder, categories
                )
        return OrderedDict(panoptic_seg=_results(stat, categories))


def _pair_by_image(annotations: list[dict], predictions: list[dict], name: str) -> list[tuple]:
    prediction_of = {p["image_id"]: p for p in predictions}
    missing = [a["image_id"] for a in annotations if a["image_id"] not in prediction_of]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(annotations)} images of {name} have no prediction, image "
            f"{missing[0]} for one: evaluate the whole dataset."
        )
    return [(a, prediction_of[a["image_id"]]) for a in annotations]


def _results(stat: PQStat, categories: dict[int, dict]) -> dict[str, float]:
    results = {}
    table = []
    for suffix, isthing in _KINDS.items():
        try:
            average, per_class = stat.pq_average(categories, isthing)
        except ZeroDivisionError:  # no class of this kind has a segment
            average = {"pq": float("nan"), "sq": float("nan"), "rq": float("nan"), "n": 0}
        row = [100 * average[key] for key in ("pq", "sq", "rq")]
        results.update(zip((f"PQ{suffix}", f"SQ{suffix}", f"RQ{suffix}"), row))
        label = {"": "All", "_th": "Things", "_st": "Stuff"}[suffix]
        table.append([label, *row, f"{average['n']} classes"])
        if suffix == "":
            of_all = per_class
    for id_, category in categories.items():
        row = [100 * of_all[id_][key] for key in ("pq", "sq", "rq")]
        results[f"PQ-{category['name']}"] = row[0]
        counts = stat[id_]
        table.append([category["name"], *row, counts.tp + counts.fn])
    headers = ["", "PQ", "SQ", "RQ", "segments"]
    text = tabulate(table, headers, tablefmt="pipe", floatfmt=".1f")
    logger.info("Panoptic quality (percent):\n%s", text)
    return results
