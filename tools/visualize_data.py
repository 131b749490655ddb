#!/usr/bin/env python
"""Draw what the model is really trained on: augmented images with their boxes and segments."""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from detr_d2.classes import panoptic_classes
from detr_d2.config import is_panoptic_fpn
from detr_d2.drawing import draw_boxes, draw_panoptic, draw_stuff, side_by_side
from detr_d2.engine import Trainer, setup_cfg
from detr_d2.engine.tools import run_tool, save_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="a YAML of configs/")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--limit", type=int, default=20, help="pictures to draw (default: 20)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys that override the YAML")
    args = parser.parse_args()

    cfg = setup_cfg(args.config_file, args.opts)
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    of_dataset = panoptic_classes(cfg) if is_panoptic_fpn(cfg) else None
    inputs = (x for batch in Trainer.build_train_loader(cfg) for x in batch)
    for number, x in zip(tqdm(range(args.limit), "Drawing"), inputs):
        image = x["image"].permute(1, 2, 0).numpy()
        if cfg.INPUT.FORMAT == "BGR":
            image = image[:, :, ::-1]
        instances = x["instances"]
        classes = instances.gt_classes.tolist()
        masks = None
        if of_dataset is not None:
            classes = [of_dataset.things[number] for number in classes]
            masks = instances.gt_masks.tensor
        pictures = [
            (f"{Path(x['file_name']).name}, {image.shape[1]} x {image.shape[0]}", image),
            ("boxes", draw_boxes(image, instances.gt_boxes, classes, None, metadata, masks)),
        ]
        if of_dataset is not None:
            stuff = draw_stuff(image, x["sem_seg"], of_dataset.stuff, metadata)
            pictures.append(("stuff", stuff))
        if "segment_map" in x:
            things = metadata.thing_dataset_id_to_contiguous_id.values()
            infos = [
                {"id": t, "category_id": c, "isthing": c in things}
                for t, c in enumerate(classes, 1)
            ]
            pictures.append(("segments", draw_panoptic(image, x["segment_map"], infos, metadata)))
        save_picture(side_by_side(pictures), args.output / f"{number:04d}-{x['image_id']}.png")
    print(f"{args.limit} pictures in {args.output}")


if __name__ == "__main__":
    run_tool(main)
