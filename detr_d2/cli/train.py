"""Train or evaluate DETR and panoptic DETR."""

import torch
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..checkpoint import Checkpointer
from ..data.coco import require_coco
from ..engine import Trainer, setup_cfg
from ..engine.defaults import (
    check_loaded_classes,
    found_config_file,
    number_classes_like_weights,
)
from ..engine.processes import is_torchrun, run_on_processes
from ..engine.tools import add_imports, overrides_of
from ..errors import UserError
from ..export.exported_model import ExportedModel, is_exported, without_instance_masks


def _train_or_evaluate(args):
    args.config_file = found_config_file(args.config_file)  # which Detectron2 opens as well
    cfg = setup_cfg(args.config_file, overrides_of(args))
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="detr_d2")
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    for name in cfg.DATASETS.TEST:
        require_coco(name)  # said before weights are downloaded
    check_loaded_classes(cfg, cfg.DATASETS.TEST)
    if is_exported(cfg.MODEL.WEIGHTS):
        cfg = without_instance_masks(cfg)
        return Trainer.test(cfg, ExportedModel(cfg))
    number_classes_like_weights(cfg)
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer.from_config(cfg, model, cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    checkpointer.require_classes()
    return Trainer.test(cfg, model)


def _check_gpus(wanted: int) -> None:
    found = torch.cuda.device_count()
    if wanted > max(1, found):  # one process may train on the processor
        raise UserError(
            f"--num-gpus {wanted}, but PyTorch finds {found} GPUs: give a smaller number."
        )


def main() -> None:
    parser = default_argument_parser()
    add_imports(parser)
    args = parser.parse_args()
    if not is_torchrun():  # which says how many itself
        _check_gpus(args.num_gpus)
    run_on_processes(_train_or_evaluate, args, args.num_gpus)
