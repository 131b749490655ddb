"""Pictures of what the dataset mappers feed the model, after augmentation."""

from pathlib import Path

import numpy as np
from detectron2.data import Metadata

from ..classes import classes_of_metadata
from ..drawing import draw_boxes, draw_panoptic, draw_stuff


def draw_training_input(
    x: dict, metadata: Metadata, image_format: str
) -> list[tuple[str, np.ndarray]]:
    """Titled pictures of what a dataset mapper feeds the model.

    Args:
        x: `image` (3, h, w) uint8, `file_name`, `instances` with `gt_boxes` and `gt_classes`, and
            `segment_map` (PanopticDETR) or `sem_seg` (Panoptic FPN) if there is one.
        image_format: channels of `image`, "RGB" or "BGR".
    """
    image = x["image"].permute(1, 2, 0).numpy()
    if image_format == "BGR":
        image = image[:, :, ::-1]
    instances = x["instances"]
    classes, masks = instances.gt_classes.tolist(), None
    # A map of stuff comes with Panoptic FPN's numbers of classes.
    fpn_classes = classes_of_metadata(metadata.name) if "sem_seg" in x else None
    if fpn_classes is not None:
        classes, masks = [fpn_classes.things[n] for n in classes], instances.gt_masks.tensor
    boxes = draw_boxes(image, instances.gt_boxes, classes, None, metadata, masks)
    title = f"{Path(x['file_name']).name}, {image.shape[1]} x {image.shape[0]}"
    pictures = [(title, image), ("boxes", boxes)]
    if fpn_classes is not None:
        stuff = draw_stuff(image, x["sem_seg"], fpn_classes.stuff, metadata)
        pictures.append(("stuff", stuff))
    if "segment_map" in x:
        things = metadata.thing_dataset_id_to_contiguous_id.values()
        infos = [
            {"id": t, "category_id": c, "isthing": c in things} for t, c in enumerate(classes, 1)
        ]
        pictures.append(("segments", draw_panoptic(image, x["segment_map"], infos, metadata)))
    return pictures
