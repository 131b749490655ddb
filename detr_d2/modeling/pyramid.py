"""A small fused feature pyramid, and features and pixels of boxes that keep their place.

The encoder's memory has seen the whole image, but at H/32; Res4, Res3 and Res2 know where an edge
is. Added from the top down (Lin et al., arXiv:1612.03144), they are maps that have both, of few
channels, so that what reads them is cheap.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .computing import at_least_float32, is_traced

NAMES = ("res4", "res3", "res2")
FINEST = 4  # pixels, the stride of Res2


def normalised_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution, GroupNorm(8) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(8, out_channels),
        nn.ReLU(inplace=True),
    )


@dataclass(frozen=True)
class Levels:
    """The maps of a pyramid, the coarsest first, and all of their cells in one row.

    Attributes:
        maps: (B, p, h, w) each.
        strides: of the maps, pixels a cell.
        image: (B, 3, H, W), the picture itself, normalised and padded.
    """

    maps: tuple[Tensor, ...]
    strides: tuple[int, ...]
    image: Tensor

    def of_images(self, images: slice) -> "Levels":
        """The same for some images of the batch."""
        return Levels(tuple(m[images] for m in self.maps), self.strides, self.image[images])

    @cached_property
    def centres(self) -> Tensor:
        """(A, 2), x and y of each cell's centre, pixels of the padded batch."""
        return torch.cat([_centres(m, stride) for m, stride in zip(self.maps, self.strides)])

    @cached_property
    def stride_of_cell(self) -> Tensor:
        """(A,), pixels."""
        return torch.cat(
            [
                torch.full(m[0, 0].shape, stride, device=m.device, dtype=_dtype(m)).flatten()
                for m, stride in zip(self.maps, self.strides)
            ]
        )

    def regions(self, boxes: Tensor, images: Tensor, resolution: int) -> Tensor:
        """The finest map in boxes (K, 4) of images (K,): (K, R, R, p); see `sampled`."""
        return sampled(self.maps[-1], self.strides[-1], boxes, images, resolution)

    def pixels(self, boxes: Tensor, images: Tensor, resolution: int) -> Tensor:
        """The picture in boxes (K, 4) of images (K,): (K, R, R, 3); see `sampled`."""
        return sampled(self.image, 1, boxes, images, resolution)


def sampled(maps: Tensor, stride: int, boxes: Tensor, images: Tensor, resolution: int) -> Tensor:
    """Maps at R x R points of each box, bilinear; beyond the map, its border.

    A point is a weighted sum of four cells, that is, of four rows of a table, for which PyTorch has
    a fused kernel: on a CPU it takes a fifth of the time of sampling the map.

    Args:
        maps: (B, p, h, w).
        stride: pixels a cell.
        boxes: (K, 4), (x0, y0, x1, y1), pixels.
        images: (K,) int64, the image of each box.
        resolution: R, points along a side, in the middles of R equal parts.

    Returns:
        (K, R, R, p).
    """
    maps = at_least_float32(maps)
    h, w = maps.shape[-2:]
    x, y = (points_of(boxes, resolution) / stride).unbind(-1)
    left, right, along = _between(x, w)
    above, below, down = _between(y, h)
    first = (images * (h * w))[:, None]
    upper, lower = first + above * w, first + below * w
    rows = torch.stack((upper + left, upper + right, lower + left, lower + right), -1)
    opposite, up = 1 - along, 1 - down
    weights = torch.stack((up * opposite, up * along, down * opposite, down * along), -1)
    table, weights = maps.permute(0, 2, 3, 1).flatten(0, 2), weights.to(maps.dtype)
    if is_traced():
        sums = (table[rows] * weights[..., None]).sum(2)
    else:
        sums = F.embedding_bag(
            rows.flatten(0, 1),
            table,
            per_sample_weights=weights.flatten(0, 1),
            mode="sum",
        )
    return sums.view(boxes.shape[0], resolution, resolution, maps.shape[1])


def _pixels_of_cells(image: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 48, H/4, W/4), the 4 x 4 pixels of each cell of the finest map."""
    bottom, right = (-side % FINEST for side in image.shape[-2:])
    return F.pixel_unshuffle(F.pad(image, (0, right, 0, bottom)), FINEST)


def flatten(maps: tuple[Tensor, ...]) -> Tensor:
    """(B, p, h, w) each -> (B, A, p)."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)


def points_of(boxes: Tensor, resolution: int) -> Tensor:
    """(..., 4) (x0, y0, x1, y1) -> (..., R R, 2), x and y of R x R points, row by row."""
    along = (torch.arange(resolution, device=boxes.device, dtype=boxes.dtype) + 0.5) / resolution
    grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).flatten(0, 1)
    corner, size = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    return corner + grid * size


def _between(places: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cells before and behind each place (in cells, from the border), the latter's weight."""
    places = (places - 0.5).clamp(0, length - 1)
    before = places.detach().long()
    return before, (before + 1).clamp(max=length - 1), places - before


def _dtype(level: Tensor) -> torch.dtype:
    """Of places: in half precision, a pixel of 1000 is one of several."""
    return torch.promote_types(level.dtype, torch.float32)


def _centres(level: Tensor, stride: int) -> Tensor:
    y, x = (
        (torch.arange(length, device=level.device, dtype=_dtype(level)) + 0.5) * stride
        for length in level.shape[-2:]
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


class FeaturePyramid(nn.Module):
    """Memory, Res4, Res3 and Res2, added from the top down."""

    def __init__(
        self, *, d_model: int, channels: int, backbone_shape: dict, outputs: tuple[str, ...] = NAMES
    ):
        """
        Args:
            d_model: d, channels of the memory.
            channels: p, of every map.
            backbone_shape: channels and strides of the backbone's maps, by name.
            outputs: which of `NAMES` there are maps of; the finest is among them.
        """
        super().__init__()
        self.strides = tuple(backbone_shape[name].stride for name in outputs)
        self.top = nn.Conv2d(d_model, channels, 1)
        self.lateral = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Conv2d(backbone_shape[name].channels, channels, 1, bias=False),
                    nn.GroupNorm(8, channels),
                )
                for name in NAMES
            }
        )
        norm = nn.GroupNorm(8, channels)
        nn.init.zeros_(norm.weight)  # classes are learned sooner where pixels come in later
        self.detail = nn.Sequential(nn.Conv2d(3 * FINEST**2, channels, 1, bias=False), norm)
        self.smooth = nn.ModuleDict({name: normalised_conv(channels, channels) for name in outputs})

    def forward(self, memory: Tensor, features: dict[str, Tensor], image: Tensor) -> Levels:
        """
        Args:
            memory: (B, d, h, w), the encoded image.
            features: the backbone's maps by name.
            image: (B, 3, H, W), normalised and padded.
        """
        x = self.top(memory)
        maps = []
        for name in NAMES:
            lateral = self.lateral[name](features[name])
            if name == NAMES[-1]:
                lateral = lateral + self.detail(_pixels_of_cells(image))
            x = lateral + F.interpolate(x, size=lateral.shape[-2:], mode="nearest")
            if name in self.smooth:
                maps.append(self.smooth[name](x))
        return Levels(tuple(maps), self.strides, image)
