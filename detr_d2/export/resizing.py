"""The resize before the network, to the pixel as Pillow does it, of tensors that can be traced.

So what is exported takes pictures as they are, and no one has to do with them what Pillow does.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_BITS = 22  # of the weights, whole numbers as in Pillow


def size_of(image: Tensor) -> Tensor:
    """(..., H, W) -> (2,) int64, H and W, in a trace those of whatever image comes."""
    return torch._shape_as_tensor(image)[-2:]


def divided(a: Tensor, b: Tensor) -> Tensor:
    """a / b in float64; that it is, the ONNX exporter sees by a cast alone (`symbolics.py`)."""
    return a.double() / b.double()


def official_size(size: Tensor, length: int, max_size: int) -> Tensor:
    """As `detr_d2.data.augmentation.official_size`, of (2,) int64."""
    shorter, longer = size.min().double(), size.max().double()
    wanted = torch.full_like(shorter, length)
    limited = torch.round(divided(max_size * shorter, longer))
    wanted = torch.where(divided(longer, shorter) * length > max_size, limited, wanted)
    both = torch.stack((wanted, torch.floor(divided(wanted * longer, shorter)))).long()
    return torch.where(size[0] <= size[1], both, both.flip(0))


class Taps(NamedTuple):
    """Of each of the new pixels along a side, the T old ones that it is a weighted mean of.

    Attributes:
        places: (T, new) int64.
        weights: (T, new) int32, times 2^22.
    """

    places: Tensor
    weights: Tensor


def resize(image: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """(..., H, W) int32, 0 to 255 -> (..., H', W'), as Pillow's BILINEAR does it."""
    # Columns first: each pass rounds to whole numbers.
    image = _along_rows(image.transpose(-1, -2), *columns).transpose(-1, -2)
    return _along_rows(image, *rows)


def taps_of(old: Tensor, new: Tensor) -> Taps:
    """Of lengths along a side, int64."""
    scale = divided(old, new)
    reach = scale.clamp(min=1)
    middles = (torch.arange(new, device=old.device).double() + 0.5) * scale  # type: ignore[call-overload]
    first = (middles - reach + 0.5).long().clamp(min=0)
    behind = torch.minimum((middles + reach + 0.5).long(), old)
    number = reach.ceil().long() * 2 + 1
    places = first + torch.arange(number, device=old.device)[:, None]  # type: ignore[call-overload]
    weights = (1 - divided(places - middles + 0.5, reach).abs()).clamp(min=0) * (places < behind)
    weights = (divided(weights, weights.sum(0)) * 2**_BITS + 0.5).int()
    return Taps(torch.minimum(places, old - 1), weights)


@torch.jit.script_if_tracing
def _along_rows(image: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """(..., H, W) int32; (T, H') -> (..., H', W), a tap at a time: what many would take is not
    there all at once."""
    # Rounded to the nearest; of wholes in float64, which all runtimes divide alike.
    total = torch.full_like(image.index_select(-2, places[0]), 2**21)
    for tap in range(places.shape[0]):
        total = total + image.index_select(-2, places[tap]) * weights[tap].unsqueeze(-1)
    return (total.double() * 2.0**-22).floor().int()
