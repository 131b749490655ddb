"""Which evaluators a dataset gets."""

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators

from ..config import is_panoptic_fpn
from ..errors import UserError
from .panoptic_evaluation import PanopticEvaluator
from .thing_evaluation import ThingEvaluator


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
    fpn = is_panoptic_fpn(cfg)
    panoptic_detr = cfg.MODEL.META_ARCHITECTURE == "PanopticDETR"
    instance_masks = fpn or (panoptic_detr and cfg.MODEL.DETR.INSTANCES.MASKS_ON)
    tasks = ("bbox", "segm") if instance_masks else ("bbox",)
    evaluators = [PanopticEvaluator(dataset_name, output_dir)] if fpn or panoptic_detr else []
    if MetadataCatalog.get(dataset_name).thing_dataset_id_to_contiguous_id:
        evaluators.append(ThingEvaluator(dataset_name, tasks, output_dir))
    return DatasetEvaluators(evaluators)
