"""How much of its own mask each query wins. [Cheng et al., arXiv:2112.01527]"""

import torch
from torch import Tensor

from .competition import over_corners
from .upsampling import Neighbours, UpsampledMasks, look_up

# What is made for so many at once stays in a processor's cache.
_CELLS_AT_ONCE, _PIXELS_AT_ONCE = 2**12, 2**17


def shares_won(masks: UpsampledMasks, winners: Tensor) -> Tensor:
    """The share of the pixels of its own mask (logit > 0, p > 0.5) that each query has won.

    A logit in a cell lies between those of the corners: where all four are above 0, the whole cell
    is of the mask, and where none is, nothing of it is. Masks are interpolated in the other cells
    alone, along their outlines.

    Args:
        masks: of the K queries, bilinear.
        winners: (H', W') int32.

    Returns:
        (K,) float64, 0 to 1; NaN where no pixel is of the mask.
    """
    positive = masks.by_pixel > 0
    whole = over_corners(positive, torch.bitwise_and)
    outline = over_corners(positive, torch.bitwise_or).logical_xor_(whole)
    return _won(masks, winners, whole, outline) / _areas(masks, whole, outline)


def _won(masks: UpsampledMasks, winners: Tensor, whole: Tensor, outline: Tensor) -> Tensor:
    """(K,) int64: the pixels that are of the mask of their winner; see `_areas`."""
    width, number = whole.shape[1:]
    rows, columns = masks.rows.low * width * number, masks.columns.low * number
    won = torch.zeros(number + 1, dtype=torch.int64, device=winners.device)
    step = max(1, _PIXELS_AT_ONCE // len(columns))
    for first in range(0, len(rows), step):
        some = winners[first : first + step]
        place = rows[first : first + step, None] + some
        place += columns
        own = look_up(whole.flatten(), place)
        row, column = look_up(outline.flatten(), place).nonzero().T
        pixels = torch.stack([row + first, column], 1)
        own[row, column] = masks.at(pixels, some[row, column]) > 0
        won += torch.where(own, some, number).flatten().bincount(minlength=number + 1)
    return won[:number]


def _areas(masks: UpsampledMasks, whole: Tensor, outline: Tensor) -> Tensor:
    """The pixels of each mask.

    Args:
        whole, outline: (h, w, K) bool, the cells that are all within the mask, or partly.

    Returns:
        (K,) float64.
    """
    rows, columns = (_weights(*x) for x in zip((masks.rows, masks.columns), whole.shape))
    per_row, per_column = ((~weights.isnan()).sum(1).double() for weights in (rows, columns))
    pixels = (per_row[:, None] * per_column).flatten().split(_CELLS_AT_ONCE)
    cells = whole.flatten(0, 1).split(_CELLS_AT_ONCE)
    areas = sum(n @ some.double() for n, some in zip(pixels, cells))
    for some in outline.nonzero().split(_CELLS_AT_ONCE):
        row, column, query = some.T
        corners = masks.corners(row, column, query)
        upper, lower = (
            torch.lerp(left[:, None], right[:, None], columns[column]) for left, right in corners
        )
        logits = torch.lerp(upper[:, None], lower[:, None], rows[row][:, :, None])
        areas.index_add_(0, query, (logits > 0).sum((1, 2)).double())
    return areas


def _weights(side: Neighbours, cells: int) -> Tensor:
    """(cells, n): the weights of the pixels in each cell, and NaN behind the last of them."""
    lengths = side.low.bincount(minlength=cells)
    first = lengths.cumsum(0) - lengths
    place = torch.arange(len(side.low), device=side.low.device) - first[side.low]
    weights = side.weight.new_full((cells, int(lengths.max())), float("nan"))
    weights[side.low, place] = side.weight
    return weights
