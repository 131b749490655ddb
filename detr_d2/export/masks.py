"""Mask logits of the kept queries of one image, in operations that every runtime has.

The mask heads go over the queries of a batch, in Python; here there is one image, whose number of
queries is not known before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.computing import at_least_float32
from ..modeling.mask_head import MaskHeadSmallConv, MaskQueries
from ..modeling.predictions import Predictions
from ..modeling.refined_mask_head import NOT_HERE, RefinedMaskHead
from ..modeling.semantic import log_odds
from ..modeling.windows import paste, windows_of


def at_least_one(chosen: Tensor) -> Tensor:
    """(n,) bool -> (m,) int64, which are chosen; the first where none is.

    Convolutions of nothing are refused by runtimes. Whoever asks looks at `chosen` once more.
    """
    first = torch.arange(chosen.shape[0], device=chosen.device) == 0
    return (chosen | (first & ~chosen.any())).nonzero()[:, 0]


def masks_of(model, predictions: Predictions, rows: Tensor) -> Tensor:
    """As `PanopticDETR.masks`.

    Args:
        predictions: of one image.
        rows: (K,) int64, K >= 1, the queries.

    Returns:
        (K, h, w), mask logits.
    """
    embeddings = predictions.hs[-1, 0].index_select(0, rows)
    maps = model.bbox_attention([embeddings], predictions.memory, None)
    queries = MaskQueries(
        torch.zeros_like(rows),
        embeddings,
        predictions.boxes[-1, 0].index_select(0, rows),
        predictions.logits[-1, 0].index_select(0, rows),
        predictions.decoded,
        predictions.context.sizes,
        predictions.padded_size,
    )
    arguments = predictions.projected, maps, [len(rows)], predictions.features, queries
    head = model.mask_head
    refined = type(head).forward is RefinedMaskHead.forward
    masks = _refined(head, *arguments) if refined else head(*arguments)
    return at_least_float32(masks)


def _refined(head: RefinedMaskHead, projected, maps, counts, features, queries) -> Tensor:
    """`RefinedMaskHead.forward` of one image."""
    probabilities = queries.probabilities
    thing = (probabilities * head.is_thing).sum(1) > 0.5
    coarse = _coarse(head, projected, maps, counts, features, queries, thing)
    height, width = queries.padded_size
    # Rounded up; of negative numbers, ONNX divides as C does.
    size = tuple((side + head.mask_stride - 1) // head.mask_stride for side in (height, width))
    logits = F.interpolate(coarse[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    things = at_least_one(thing)
    images = queries.images[things]
    windows = windows_of(queries.boxes[things], queries.sizes[images])
    levels = queries.decoded.levels
    corrections = head.window(levels, windows, images, queries.embeddings[things])
    y, x = (
        (torch.arange(n, device=maps.device, dtype=logits.dtype) + 0.5) * side / n
        for n, side in zip(size, (height, width))
    )
    pasted, inside = paste(corrections, windows, x, y)
    place = _place(thing)
    outside = logits.clamp(max=0) - NOT_HERE if head.things_in_windows else logits
    of_things = torch.where(inside[place], logits + pasted[place], outside)
    return torch.where(thing[:, None, None], of_things, logits)


def _coarse(head, projected, maps, counts, features, queries, thing: Tensor) -> Tensor:
    """(K, H/s, W/s), see `MaskParts`."""
    probabilities = queries.probabilities
    odds = log_odds(head.semantic(queries.decoded.levels.maps))[0]
    gain = head.semantic_gain[thing.long()]
    start = gain[:, None, None] * torch.einsum("kc,chw->khw", probabilities.to(odds.dtype), odds)
    convolved = ~thing if head.things_in_windows else torch.ones_like(thing)
    masks = MaskHeadSmallConv.forward(
        head, projected, maps[at_least_one(convolved)], counts, features, queries
    )
    masks = F.interpolate(masks[:, None].to(start.dtype), start.shape[-2:], mode="bilinear")[:, 0]
    return start + masks[_place(convolved)] * convolved[:, None, None]


def _place(chosen: Tensor) -> Tensor:
    """(n,) bool -> (n,) int64, which of the chosen each is; of the others, 0 or another."""
    return (chosen.long().cumsum(0) - 1).clamp(min=0)
