"""From masks at a quarter of the image's size to its pixels. [DETR 4.4]"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of float32 2 MiB, which stay in a processor's cache; of a GPU's memory 64 MiB.
_LOGITS_AT_ONCE = {"cpu": 2**19, "cuda": 2**24}


class UpsampledMasks:
    """The K masks of one image at the pixels of its result, computed where they are asked for.

    There are two ways from the logits to a pixel of the result:

    * bilinear: the centre of the pixel has a place in the processed image, and that a place among
      the logits, between four of them. Each of the h' x w' pixels of the result is computed.
    * nearest: as in the official code, masks are upsampled to the padded batch (bilinear) and
      cropped to the image, and what is made of them there is resized to the original image
      (nearest). Where that is smaller, pixels are left out, and where it is larger, they are
      repeated. So everything is computed at the h' rows and w' columns that are left, once, and
      only the end is spread over the result.

    The logits around a pixel are the corners of its *cell*; there are as many cells as logits, and
    the last ones of a row or column have their own logits on both sides. A bilinear value is a mean
    of the four corners, so it lies between the lowest and the highest of them.
    """

    def __init__(
        self,
        logits: Tensor,
        padded_size: tuple[int, ...],
        image_size: tuple[int, ...],
        output_size: tuple[int, ...],
        nearest: bool = True,
    ):
        """
        Args:
            logits: (K, h, w), of the padded batch, finite; of DETR, h and w are H/4 and W/4.
            padded_size: (H, W) of the batch, pixels.
            image_size: (height, width) of the processed image, without padding.
            output_size: (height, width) of the original image.
            nearest: the way of the official code.
        """
        self.logits = logits
        self.output_size = tuple(output_size)
        sizes = zip(logits.shape[1:], padded_size, image_size, output_size)
        self.rows, self.columns = (_neighbours(*lengths, nearest, logits) for lengths in sizes)
        # (h, w, K): the K logits of a pixel lie together, where they are compared, and are
        # interpolated with the same weights.
        self.by_pixel = logits.permute(1, 2, 0).contiguous()

    @property
    def pixels_at_once(self) -> int:
        """At so many pixels, all K masks together fit the fastest memory."""
        logits = _LOGITS_AT_ONCE.get(self.logits.device.type, _LOGITS_AT_ONCE["cpu"])
        return max(1, logits // max(1, len(self.logits)))

    def spread(self, values: Tensor) -> Tensor:
        """(..., h', w') of any dtype -> (..., *output_size)."""
        if values.shape[-2:] == self.output_size:
            return values  # no pixel is repeated
        rows, columns = (axis.repeats for axis in (self.rows, self.columns))
        return values.repeat_interleave(rows, -2).repeat_interleave(columns, -1)

    def areas(self, segments: Tensor) -> Tensor:
        """(h', w') integer below K -> (K,) int64, pixels of the result."""
        pixels = None
        if segments.shape != self.output_size:
            pixels = (self.rows.repeats[:, None] * self.columns.repeats).flatten().double()
        return segments.flatten().bincount(pixels, len(self.logits)).long()

    def of_cells(self, values: Tensor) -> Tensor:
        """(h, w) of any dtype -> (h', w'), at each pixel that of its cell."""
        return values.index_select(1, self.columns.low).index_select(0, self.rows.low)

    def everywhere(self) -> Tensor:
        """(K, h', w') logits."""
        return self._in_rows(slice(None)).permute(2, 0, 1)

    def positive(self) -> Tensor:
        """(K, h', w') bool: the logit is above 0, the probability above 0.5."""
        height, width = len(self.rows.low), len(self.columns.low)
        found = self.logits.new_empty((len(self.logits), height, width), dtype=torch.bool)
        step = max(1, self.pixels_at_once // max(1, width))
        for first in range(0, height, step):
            some = slice(first, first + step)
            found[:, some] = (self._in_rows(some) > 0).permute(2, 0, 1)
        return found

    def at(self, pixels: Tensor, queries: Tensor | None = None) -> Tensor:
        """Logits at some pixels.

        Args:
            pixels: (P, 2) int64, places among the h' rows and w' columns.
            queries: (P,) int64, the one that is asked for at each; by default all of them.

        Returns:
            (P, K); with `queries`, (P,).
        """
        row, column = pixels.T
        down, along = self.rows.weight[row], self.columns.weight[column]
        if queries is None:
            down, along = down[:, None], along[:, None]
        corners = self.corners(self.rows.low[row], self.columns.low[column], queries)
        upper, lower = (torch.lerp(*side, along) for side in corners)
        return torch.lerp(upper, lower, down)

    def corners(
        self, rows: Tensor, columns: Tensor, queries: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The logits of some cells at their left and right corner: above, then below.

        Args:
            rows, columns: (C,) int64, places among the h rows and w columns of cells.
            queries: see `at`.

        Returns:
            each (C, K); with `queries`, (C,).
        """
        height, width, number = self.by_pixel.shape
        logits = self.by_pixel.flatten(0, 1) if queries is None else self.by_pixel.flatten()
        behind = (columns + 1).clamp(max=width - 1)
        for row in (rows, (rows + 1).clamp(max=height - 1)):
            left, right = row * width + columns, row * width + behind
            if queries is not None:
                left, right = left * number + queries, right * number + queries
            yield logits.index_select(0, left), logits.index_select(0, right)

    def _in_rows(self, some: slice) -> Tensor:
        """(r, w', K) logits of some of the h' rows."""
        low, high, down = (values[some] for values in self.rows[:3])
        left, right, along = self.columns[:3]
        first, last = int(low.min()), int(high.max()) + 1
        logits = self.by_pixel[first:last]
        logits = torch.lerp(logits[:, left], logits[:, right], along[:, None])
        return torch.lerp(logits[low - first], logits[high - first], down[:, None, None])


class Neighbours(NamedTuple):
    """Of each pixel that is computed, along one side.

    Attributes:
        low, high: int64, the logits before and behind it; `low` is its cell.
        weight: of the latter, 0 to 1.
        repeats: int64, how many pixels of the result show it.
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    repeats: Tensor


def _neighbours(
    old: int, padded: int, image: int, new: int, nearest: bool, like: Tensor
) -> Neighbours:
    """What `F.interpolate` to `padded` (bilinear) has at places of the image.

    Places are counted in pixels of the image, the centre of the first is 0. Nearest, they are the
    pixels that `resize_nearest` of `image` looks at; otherwise the centres of the result's pixels.
    """
    if nearest:
        pixels, repeats = _nearest_centres(image, new).unique_consecutive(return_counts=True)
    else:
        pixels = (torch.arange(new).double() + 0.5) * (image / new) - 0.5
        repeats = torch.ones(new, dtype=torch.int64)
    places = ((pixels.double() + 0.5) * (old / padded) - 0.5).clamp(min=0)
    low = places.long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    weight = (places - low).clamp(max=1).to(like.dtype)
    return Neighbours(*(t.to(like.device) for t in (low, high, weight, repeats)))


def look_up(table: Tensor, places: Tensor) -> Tensor:
    """`table[places]` of (n,) and (h', w') integer, in a third of the time."""
    return table.index_select(0, places.flatten()).view(places.shape)


def upsample_masks(
    mask_logits: Tensor, padded_size: tuple[int, ...], image_size: tuple[int, ...]
) -> Tensor:
    """(K, H/4, W/4) -> (K, height, width): bilinear to the padded batch, cropped to the image.

    It is the first half of the way of `UpsampledMasks`, for those who want to see it.
    """
    masks = F.interpolate(mask_logits[:, None], padded_size, mode="bilinear", align_corners=False)
    return masks[:, 0, : image_size[0], : image_size[1]]


def resize_nearest(values: Tensor, size: tuple[int, ...]) -> Tensor:
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
