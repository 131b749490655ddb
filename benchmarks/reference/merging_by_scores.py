"""Merging by class score times mask probability, one query after the other.

[Cheng et al., arXiv:2112.01527]; docs/panoptic_merging.md says what is added to it here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def panoptic_by_scores(
    logits: Tensor, masks: Tensor, is_thing: list[bool], detr, output_size: tuple[int, int]
) -> tuple[Tensor, list[dict]]:
    """The rule MODEL.DETR.PANOPTIC.MERGE "scores", with the arguments of
    `postprocessing.panoptic_of`; the image has no padding."""
    scores, labels = logits.softmax(-1).max(-1)
    keep = labels.ne(logits.shape[-1] - 1) & (scores > detr.PANOPTIC.SCORE_THRESHOLD)
    scores, classes = scores[keep], labels[keep].tolist()
    p = F.interpolate(masks[keep][:, None], output_size, mode="bilinear")[:, 0].sigmoid()
    products = scores[:, None, None] * p
    winners = products.argmax(0) if len(classes) else torch.empty(0)
    left = []
    for query in range(len(classes)):
        own = p[query] > 0.5
        area, won = int(own.sum()), int((own & winners.eq(query)).sum())
        if area and won / area >= detr.PANOPTIC.LEAST_SHARE:
            left.append(query)
    first_of_class: dict[int, int] = {}
    segment_of = {
        query: query
        if is_thing[classes[query]]
        else first_of_class.setdefault(classes[query], query)
        for query in left
    }
    areas: dict[int, int] = {}
    while left:
        winners = torch.tensor(left)[products[left].argmax(0).cpu()]
        segments = torch.tensor([segment_of.get(q, q) for q in range(len(classes))])[winners]
        areas = {segment_of[q]: int(segments.eq(segment_of[q]).sum()) for q in left}
        large = [q for q in left if areas[segment_of[q]] > detr.PANOPTIC.SMALL_SEGMENT_AREA]
        if large == left:
            break
        left = large
    panoptic_seg = torch.zeros(output_size, dtype=torch.int32)
    segments_info = []
    for number, segment in enumerate(areas if left else {}, 1):
        panoptic_seg[segments.eq(segment)] = number
        of_it = [q for q in left if segment_of[q] == segment]
        segments_info.append(
            {
                "id": number,
                "category_id": classes[segment],
                "isthing": is_thing[classes[segment]],
                "score": float(scores[of_it].max()),
                "area": areas[segment],
            }
        )
    return panoptic_seg, segments_info
