"""The official way to a training image: one mask for each segment, through everything."""

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import Tensor

from detr_d2.data.augmentation import official_size


def load(dataset_dict: dict, length: int, max_size: int) -> dict:
    """Read image and masks and resize them, without flip or crop.

    The official code has the masks resized by torch's "nearest", which looks at the corner of a
    pixel; this looks at its centre, as Pillow and Detectron2 do, so that results can be compared.
    Boxes end behind their last pixel, for the same reason.

    Args:
        dataset_dict: `file_name`, `pan_seg_file_name`, `segments_info`.
        length, max_size: of the shorter side, and at most of the longer, in pixels.

    Returns:
        `image` (3, h, w) uint8, `instances` with gt_boxes and gt_classes, `masks` (T, h, w) bool.
    """
    from panopticapi.utils import rgb2id  # needed by the benchmark alone

    image = Image.open(dataset_dict["file_name"]).convert("RGB")
    ids = rgb2id(np.array(Image.open(dataset_dict["pan_seg_file_name"]), dtype=np.uint32))
    segment_ids = np.array([info["id"] for info in dataset_dict["segments_info"]])
    masks = torch.as_tensor(ids == segment_ids[:, None, None], dtype=torch.uint8)

    height, width = masks.shape[1:]
    size = official_size(height, width, length, max_size)
    image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    masks = F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[:, 0] > 0.5
    instances = Instances(size)
    instances.gt_boxes = Boxes(boxes_of(masks))
    classes = [info["category_id"] for info in dataset_dict["segments_info"]]
    instances.gt_classes = torch.tensor(classes)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return {"image": pixels, "instances": instances, "masks": masks}


def boxes_of(masks: Tensor) -> Tensor:
    """(T, h, w) bool -> (T, 4), (x0, y0, x1, y1), by two maps of coordinates a mask."""
    h, w = masks.shape[-2:]
    y, x = torch.meshgrid(torch.arange(0.0, h), torch.arange(0.0, w), indexing="ij")
    far = ~masks
    columns, rows = masks * x, masks * y
    least = [c.masked_fill(far, 1e8).flatten(1).min(-1)[0] for c in (columns, rows)]
    most = [c.flatten(1).max(-1)[0] + 1 for c in (columns, rows)]
    return torch.stack((*least, *most), 1)
