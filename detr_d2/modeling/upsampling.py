"""From masks at a quarter of the image's size to its pixels. [DETR 4.4]"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of float32 2 MiB, which stay in a processor's cache; of a GPU's memory 64 MiB.
_LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**24}


class UpsampledMasks:
    """The K masks of one image at the pixels of its result, computed where they are asked for.

    Masks are upsampled to the padded batch (bilinear) and cropped to the image, and what is made of
    them there is resized to the original image (nearest). Where that is smaller, pixels are left
    out, and where it is larger, they are repeated. So everything is computed at the h' rows and w'
    columns that are left, once, and only the end is spread over the result.
    """

    def __init__(
        self,
        logits: Tensor,
        padded_size: tuple[int, int],
        image_size: tuple[int, int],
        output_size: tuple[int, int],
    ):
        """
        Args:
            logits: (K, H/4, W/4), of the padded batch, finite.
            padded_size: (H, W) of the batch, pixels.
            image_size: (height, width) of the processed image, without padding.
            output_size: (height, width) of the original image.
        """
        self.logits = logits
        self.output_size = tuple(output_size)
        sizes = zip(logits.shape[1:], padded_size, image_size, output_size)
        self._rows, self._columns = (_neighbours(*lengths, logits) for lengths in sizes)
        # (H/4, W/4, K): the K logits of a pixel lie together, where the argmax wants them, and are
        # interpolated with the same weights.
        self._by_pixel = logits.permute(1, 2, 0).contiguous()

    def spread(self, values: Tensor) -> Tensor:
        """(..., h', w') of any dtype -> (..., *output_size)."""
        if values.shape[-2:] == self.output_size:
            return values  # no pixel is repeated
        rows, columns = (axis.repeats for axis in (self._rows, self._columns))
        return values.repeat_interleave(rows, -2).repeat_interleave(columns, -1)

    def areas(self, segments: Tensor) -> Tensor:
        """(h', w') int64 below K -> (K,) int64, pixels of the result."""
        pixels = None
        if segments.shape != self.output_size:
            pixels = (self._rows.repeats[:, None] * self._columns.repeats).flatten().double()
        return segments.flatten().bincount(pixels, len(self.logits)).long()

    def everywhere(self) -> Tensor:
        """(K, h', w') logits."""
        rows, columns = self._rows, self._columns
        logits = torch.lerp(
            self._by_pixel[:, columns.low], self._by_pixel[:, columns.high], columns.weight[:, None]
        )
        weight = rows.weight[:, None, None]
        return torch.lerp(logits[rows.low], logits[rows.high], weight).permute(2, 0, 1)

    def winners(self) -> Tensor:
        """(h', w') int64: the mask with the highest logit at each pixel, K >= 1.

        A bilinear value is a mean of the four logits around it, and the weights of the four are the
        same for all masks. So a mask that is the highest at all four is the highest between them,
        and masks are interpolated along the borders of segments alone.
        """
        highest = self.logits.argmax(0)
        right, below = _next_along(highest, 1), _next_along(highest, 0)
        undisputed = (highest == right) & (highest == below)
        undisputed &= highest == _next_along(right, 0)
        winners = torch.where(undisputed, highest, -1)
        winners = winners[self._rows.low][:, self._columns.low]
        disputed = (winners < 0).nonzero()
        winners[tuple(disputed.T)] = self.winners_at(disputed)
        return winners

    def winners_at(self, pixels: Tensor, left: Tensor | None = None) -> Tensor:
        """
        Args:
            pixels: (P, 2) int64, places among the h' rows and w' columns.
            left: (K,) bool, the masks that take part; by default all of them.

        Returns:
            (P,) int64, the mask with the highest logit.
        """
        at_once = _LOGITS_AT_ONCE.get(pixels.device.type, _LOGITS_AT_ONCE["cpu"])
        winners = []
        for some in pixels.split(max(1, at_once // len(self.logits))):
            logits = self._at(*some.T)
            if left is not None:
                logits[:, ~left] = float("-inf")
            winners.append(logits.argmax(1))
        return torch.cat(winners)

    def _at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(P,), (P,) -> (P, K) logits."""
        above, below, down = (values[rows] for values in self._rows[:3])
        left, right, along = (values[columns] for values in self._columns[:3])
        width, by_pixel = self.logits.shape[2], self._by_pixel.flatten(0, 1)
        upper, lower = (
            torch.lerp(
                by_pixel.index_select(0, row * width + left),
                by_pixel.index_select(0, row * width + right),
                along[:, None],
            )
            for row in (above, below)
        )
        return torch.lerp(upper, lower, down[:, None])


class _Neighbours(NamedTuple):
    """Of each pixel of the processed image that the result shows, along one side.

    Attributes:
        low, high: int64, the logits before and behind it.
        weight: of the latter, 0 to 1.
        repeats: int64, how many pixels of the result show it.
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    repeats: Tensor


def _neighbours(old: int, padded: int, image: int, new: int, like: Tensor) -> _Neighbours:
    """What `F.interpolate` to `padded` (bilinear) and then `resize_nearest` of `image` look at."""
    pixels, repeats = _nearest_centres(image, new).unique_consecutive(return_counts=True)
    places = ((pixels.double() + 0.5) * (old / padded) - 0.5).clamp(min=0)
    low = places.long()
    high = (low + 1).clamp(max=old - 1)
    weight = (places - low).to(like.dtype)
    return _Neighbours(*(t.to(like.device) for t in (low, high, weight, repeats)))


def _next_along(values: Tensor, axis: int) -> Tensor:
    """Each is the next one along the axis; the last is its own."""
    length = values.shape[axis]
    following = torch.arange(1, length + 1, device=values.device).clamp(max=length - 1)
    return values.index_select(axis, following)


def upsample_masks(
    mask_logits: Tensor, padded_size: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """(K, H/4, W/4) -> (K, height, width): bilinear to the padded batch, cropped to the image.

    It is the first half of the way of `UpsampledMasks`, for those who want to see it.
    """
    masks = F.interpolate(mask_logits[:, None], padded_size, mode="bilinear", align_corners=False)
    return masks[:, 0, : image_size[0], : image_size[1]]


def resize_nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) of any dtype -> (..., *size), to the pixel as Pillow's NEAREST does it."""
    h, w = values.shape[-2:]
    rows = _nearest_centres(h, size[0]).to(values.device)
    columns = _nearest_centres(w, size[1]).to(values.device)
    return values[..., rows[:, None], columns]


def _nearest_centres(old: int, new: int) -> Tensor:
    # floor((i + 1/2) old / new). Pillow comes to it by adding up steps, and where a centre lies
    # between two pixels, the rounding error of its sum decides.
    steps = np.full(new, old / new)
    steps[0] /= 2
    return torch.from_numpy(steps.cumsum().astype(np.int64)).clamp(max=old - 1)
