#!/usr/bin/env python
"""Train or evaluate DETR and panoptic DETR."""

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from detr_d2.checkpoint import Checkpointer
from detr_d2.data.coco import require_coco
from detr_d2.engine import Trainer, setup_cfg
from detr_d2.engine.tools import run_tool


def main(args):
    cfg = setup_cfg(args.config_file, args.opts)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="detr_d2")
    if not args.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    for name in cfg.DATASETS.TEST:
        require_coco(name)  # said before weights are downloaded
    model = Trainer.build_model(cfg)
    Checkpointer.from_config(cfg, model, cfg.OUTPUT_DIR).resume_or_load(
        cfg.MODEL.WEIGHTS, resume=args.resume
    )
    return Trainer.test(cfg, model)


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    run_tool(
        lambda: launch(
            main,
            arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    )
