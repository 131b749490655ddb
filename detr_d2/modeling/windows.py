"""Masks of things in the frame of their boxes.

At H/4 a thing of 20 pixels is five cells wide. In a window around its box it has as many points as
a large one, what is seen there means the same at every size, and far from it nothing has to be
computed or learned (He et al., arXiv:1703.06870).
"""

import torch
from torch import Tensor, nn

from .boxes import enlarged, pixels_xyxy
from .computing import at_least_float32
from .pyramid import Levels, normalised_conv

_ENLARGED = 1.2  # times the box


def windows_of(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (T, 4), relative (cx, cy, w, h), and the (width, height) of their images (T, 2), pixels
    -> (T, 4), (x0, y0, x1, y1) of their windows, pixels."""
    return pixels_xyxy(enlarged(boxes, _ENLARGED), sizes)


class WindowHead(nn.Module):
    """Corrections of a thing's mask in the frame of its box, which begin at zero.

    Features at R x R points of the window, the query's embedding and the picture's pixels added,
    two 3x3 convolutions and a third that gives four logits a point (sub-pixel convolution, Shi et
    al., arXiv:1609.05158). A cell of the features has sixteen pixels, and which of them a point is
    on, nothing in the window says: an outline is where the picture itself has it, at the places of
    the logits.
    """

    def __init__(self, d_model: int, channels: int, resolution: int):
        super().__init__()
        self.resolution = resolution
        self.of_query = nn.Linear(d_model, channels)
        self.of_pixels = nn.Sequential(
            nn.Conv2d(3 * 4, channels, 1, bias=False), nn.GroupNorm(8, channels)
        )
        self.convs = nn.Sequential(
            normalised_conv(channels, channels), normalised_conv(channels, channels)
        )
        self.out = nn.Conv2d(channels, 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, levels: Levels, windows: Tensor, images: Tensor, embeddings: Tensor):
        """(T, 4), (T,), (T, d) -> (T, 2R, 2R)."""
        x = levels.regions(windows, images, self.resolution)
        x = x + self.of_query(embeddings)[:, None, None]
        pixels = _four_a_point(levels.pixels(windows, images, 2 * self.resolution))
        x = x.permute(0, 3, 1, 2) + self.of_pixels(pixels)
        x = self.out(self.convs(x))
        # `F.pixel_shuffle`, whose backward pass fails where there is no window.
        number, _, h, w = x.shape
        x = x.view(number, 2, 2, h, w).permute(0, 3, 1, 4, 2)
        return x.reshape(number, 2 * h, 2 * w)


def _four_a_point(pixels: Tensor) -> Tensor:
    """(T, 2R, 2R, 3) -> (T, 12, R, R), `F.pixel_unshuffle` of channels last."""
    number, side = pixels.shape[:2]
    pixels = pixels.view(number, side // 2, 2, side // 2, 2, 3)
    return pixels.permute(0, 2, 4, 5, 1, 3).reshape(number, 12, side // 2, side // 2)


def sample(maps: Tensor, windows: Tensor, resolution: int, size: tuple[int, ...]) -> Tensor:
    """Maps at the points of windows; bilinear, beyond the border as at it.

    Bilinear interpolation on a grid is two products of matrices, one an axis.

    Args:
        maps: (T, h, w).
        windows: (T, 4), (x0, y0, x1, y1), pixels.
        resolution: R.
        size: (H, W), pixels, of the whole maps.

    Returns:
        (T, R, R).
    """
    (height, width), (h, w) = size, maps.shape[1:]
    along = (torch.arange(resolution, device=maps.device, dtype=windows.dtype) + 0.5) / resolution
    corner, extent = windows[:, :2], windows[:, 2:] - windows[:, :2]
    x, y = (corner + along[:, None, None] * extent).permute(2, 1, 0)
    rows, columns = hat(y * (h / height) - 0.5, h), hat(x * (w / width) - 0.5, w)
    return _products(rows, maps, columns)


def paste(values: Tensor, windows: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse way: (T, R, R) values of windows at the columns x (W',) and rows y (H',), pixels.

    Returns:
        (T, H', W'), bilinear, and (T, H', W') bool, True inside of the window.
    """
    resolution = values.shape[-1]
    inside, weights = [], []
    for places, low, high in ((y, windows[:, 1], windows[:, 3]), (x, windows[:, 0], windows[:, 2])):
        low, high = low[:, None], high[:, None]
        inside.append((low <= places) & (places < high))
        within = (places - low) / (high - low) * resolution - 0.5
        weights.append(hat(within, resolution))
    pasted = _products(weights[0], values, weights[1])
    return pasted, inside[0][:, :, None] & inside[1][:, None, :]


def _products(rows: Tensor, maps: Tensor, columns: Tensor) -> Tensor:
    """(T, R, h), (T, h, w), (T, R', w) -> (T, R, R'); in full precision, as logits are."""
    maps = at_least_float32(maps)
    with torch.autocast(maps.device.type, enabled=False):
        return rows.to(maps.dtype) @ maps @ columns.to(maps.dtype).transpose(1, 2)


def nearest(maps: Tensor, images: Tensor, points: Tensor) -> Tensor:
    """(B, H, W) at (T, P, 2) points (x, y) of the images (T,) -> (T, P); beyond the border, 0."""
    x, y = points.floor().long().unbind(-1)
    h, w = maps.shape[-2:]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    found = maps[images[:, None], y.clamp(0, h - 1), x.clamp(0, w - 1)]
    return found * inside


def hat(places: Tensor, length: int) -> Tensor:
    """(..., P) places in cells, from the middle of the first -> (..., P, length): the weights of
    linear interpolation between `length` values; beyond the ends, the last one's."""
    cells = torch.arange(length, device=places.device, dtype=places.dtype)
    return (1 - (places.clamp(0, length - 1)[..., None] - cells).abs()).clamp(min=0)
