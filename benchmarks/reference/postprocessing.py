"""The official way from the predictions of one image to boxes and the panoptic map."""

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert


def instances_of(logits: Tensor, boxes: Tensor, output_size: tuple[int, int]) -> Instances:
    """(N, C + 1), (N, 4) relative (cx, cy, w, h) -> the N Instances, in pixels."""
    height, width = output_size
    scores, classes = logits.softmax(-1)[:, :-1].max(-1)
    scale = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    found = Instances(output_size)
    found.pred_boxes = Boxes(box_convert(boxes, "cxcywh", "xyxy") * scale)
    found.pred_boxes.clip(output_size)
    found.scores, found.pred_classes = scores, classes
    return found


def panoptic_of(
    logits: Tensor,
    masks: Tensor,
    is_thing: list[bool],
    detr,
    processed_size: tuple[int, int],
    output_size: tuple[int, int],
) -> tuple[Tensor, list[dict]]:
    """Merge the masks of one image.

    The official steps up to the map and its segments; the official code then writes the map as a
    PNG, which is the evaluator's work in Detectron2. Ids count from 1, as Detectron2 has them.

    Args:
        logits: (N, C + 1).
        masks: (N, H/4, W/4) logits.
        is_thing: of each class.
        detr: the node MODEL.DETR of the configuration.
        processed_size: (height, width) of the model's input.
        output_size: (height, width) of the original image.
    """
    scores, classes = logits.softmax(-1).max(-1)
    keep = classes.ne(logits.shape[-1] - 1) & (scores > detr.PANOPTIC.SCORE_THRESHOLD)
    scores, classes = scores[keep], classes[keep]
    masks = F.interpolate(masks[keep][:, None], processed_size, mode="bilinear")[:, 0]

    first_of_class: dict[int, list[int]] = {}
    for query, label in enumerate(classes.tolist()):
        if not is_thing[label]:
            first_of_class.setdefault(label, []).append(query)
    winners, areas = _winners_and_areas(masks, list(first_of_class.values()), output_size)
    while len(classes):
        are_large = [area > detr.PANOPTIC.SMALL_SEGMENT_AREA for area in areas]
        if all(are_large):
            break
        large = torch.tensor(are_large, device=classes.device)
        scores, classes, masks = scores[large], classes[large], masks[large]
        winners, areas = _winners_and_areas(masks, [], output_size)
    segments = [
        {"id": n, "category_id": label, "isthing": is_thing[label], "score": score, "area": area}
        for n, (label, score, area) in enumerate(zip(classes.tolist(), scores.tolist(), areas), 1)
    ]
    return (winners + 1 if segments else winners).to(torch.int32), segments


def _winners_and_areas(
    masks: Tensor, duplicates: list[list[int]], output_size: tuple[int, int]
) -> tuple[Tensor, list[int]]:
    """The best mask of every pixel of the output (Pillow resizes the map), and pixels of each."""
    from panopticapi.utils import id2rgb, rgb2id  # needed by the benchmark alone

    h, w = masks.shape[-2:]
    if len(masks):
        winners = masks.flatten(1).transpose(0, 1).softmax(-1).argmax(-1).view(h, w)
    else:
        winners = torch.zeros((h, w), dtype=torch.int64)
    for queries in duplicates:
        for query in queries[1:]:
            winners.masked_fill_(winners.eq(query), queries[0])
    picture = Image.fromarray(id2rgb(winners.cpu().numpy()))
    picture = picture.resize(output_size[::-1], Image.Resampling.NEAREST)
    winners = torch.from_numpy(rgb2id(np.array(picture)).astype(np.int64))
    return winners, [int(winners.eq(query).sum()) for query in range(len(masks))]
