"""Which evaluators a dataset gets."""

import logging
import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators

from ..errors import UserError
from ..model_kind import ModelKind, kind_of
from .panoptic_evaluation import PanopticEvaluator
from .thing_evaluation import ThingEvaluator

logger = logging.getLogger(__name__)


def results_folder(output_dir: str | os.PathLike, dataset_name: str) -> str:
    """Where the evaluators of a dataset write, within OUTPUT_DIR."""
    return os.path.join(output_dir, "inference", dataset_name)


def build_evaluator(cfg: CfgNode, dataset_name: str):
    """PQ, and AP where there are things, for panoptic datasets; box AP for COCO's instances."""
    output_dir = results_folder(cfg.OUTPUT_DIR, dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind == "coco":
        return COCOEvaluator(dataset_name, ("bbox",), output_dir=output_dir)
    if kind != "coco_panoptic_seg":
        raise UserError(
            f"Dataset {dataset_name} has the evaluator_type {kind}: DETR is evaluated on "
            "'coco' and 'coco_panoptic_seg'. Set DATASETS.TEST to such a dataset."
        )
    model = kind_of(cfg)
    if model is ModelKind:
        logger.warning(
            "%s does not say what it gives: its boxes are evaluated, and no panoptic quality. Let "
            "its class be a detr_d2.model_kind.ModelKind.",
            cfg.MODEL.META_ARCHITECTURE,
        )
    tasks = ("bbox", "segm") if model.gives_instance_masks(cfg) else ("bbox",)
    ignored = cfg.TEST.IGNORE_MODEL_LABELS
    evaluators = (
        [PanopticEvaluator(dataset_name, output_dir, ignored)] if model.gives_panoptic else []
    )
    if MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id:
        evaluators.append(ThingEvaluator(dataset_name, tasks, output_dir, ignored))
    return DatasetEvaluators(evaluators)
