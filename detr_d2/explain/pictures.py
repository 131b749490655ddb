"""From tensors to pictures."""

from colorsys import hls_to_rgb

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from ..modeling.upsampling import resize_nearest


def magnitude(features: Tensor) -> np.ndarray:
    """(C, h, w) -> (h, w) in 0..1: the mean of |x| over channels, the greatest being 1."""
    return relative(features.abs().mean(0))


def relative(values: Tensor, greatest: float | None = None) -> np.ndarray:
    """(h, w), not negative -> 0..1, where 1 is `greatest` (by default that of `values`)."""
    greatest = values.max().item() if greatest is None else greatest
    return (values / max(greatest, 1e-12)).clamp(0, 1).float().cpu().numpy()


def principal_components(features: Tensor) -> np.ndarray:
    """(C, h, w) -> (h, w, 3) uint8: the first three principal components as red, green, blue.

    Each goes from its 1st to its 99th percentile. Of the two signs that a component can have, the
    one is taken whose greatest value is farthest from 0, so that a picture can be drawn again.
    """
    channels, h, w = features.shape
    cells = features.flatten(1).T.double().cpu()
    cells = cells - cells.mean(0)
    if channels < h * w:
        _, axes = torch.linalg.eigh(cells.T @ cells)
        scores = cells @ axes[:, -3:].flip(1)
    else:  # the same scores, from the smaller matrix
        variances, axes = torch.linalg.eigh(cells @ cells.T)
        scores = (axes * variances.clamp(min=0).sqrt())[:, -3:].flip(1)
    scores = torch.nn.functional.pad(scores, (0, 3 - scores.shape[1])).numpy()
    farthest = scores[np.abs(scores).argmax(0), np.arange(3)]
    scores = scores * np.where(farthest < 0, -1, 1)
    low, high = np.percentile(scores, (1, 99), axis=0)
    scaled = (scores - low) / np.maximum(high - low, 1e-12)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8).reshape(h, w, 3)


def signed(logits: Tensor) -> np.ndarray:
    """(h, w) -> (h, w, 3) uint8: p = sigmoid(logits), blue at 0, white at 1/2, red at 1."""
    p = logits.sigmoid().float().cpu().numpy()[..., None]
    blue, white, red = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]])
    below, above = blue + (white - blue) * 2 * p, white + (red - white) * (2 * p - 1)
    return np.where(p < 0.5, below, above).round().astype(np.uint8)


def color_of(number: int) -> tuple[int, int, int]:
    """A colour for each query; those of neighbouring numbers are far apart (golden angle)."""
    lightness = (0.5, 0.62, 0.4)[number % 3]
    red, green, blue = hls_to_rgb(number * 0.381966 % 1, lightness, 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)


def css_color(number: int) -> str:
    """`color_of` as CSS wants it."""
    return "#{:02x}{:02x}{:02x}".format(*color_of(number))


def colored_heat(heat: np.ndarray) -> np.ndarray:
    """(h, w) in 0..1 -> (h, w, 3) uint8: black, red, yellow."""
    return (colormaps["inferno"](heat)[..., :3] * 255).astype(np.uint8)


def colored_segments(numbers: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Lay colours over an image.

    Args:
        numbers: (h, w) integer, the number of each pixel's colour, -1 for none.
        image: (h, w, 3) uint8.
    """
    present, places = np.unique(numbers, return_inverse=True)
    colors = np.array([color_of(n) if n >= 0 else (0, 0, 0) for n in present.tolist()])
    gray = image.mean(2, keepdims=True)
    laid = 0.7 * colors[places.reshape(numbers.shape)] + 0.3 * gray
    return laid.round().astype(np.uint8)


def resized(picture: np.ndarray, size: tuple[int, ...], nearest: bool = False) -> np.ndarray:
    """(h, w, 3) uint8 or (h, w) float -> (*size, 3) or `size`."""
    how = Image.Resampling.BICUBIC
    if nearest:
        how = Image.Resampling.NEAREST
    elif size[1] < picture.shape[1]:
        how = Image.Resampling.BOX
    height, width = size
    return np.asarray(Image.fromarray(picture).resize((width, height), how))


def size_of_width(size: tuple[int, ...], width: int) -> tuple[int, int]:
    """(height, width) of the proportions of `size`."""
    return max(1, round(size[0] * width / size[1])), width


def resized_numbers(numbers: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(h, w) integer -> `size`, by nearest neighbour."""
    return resize_nearest(torch.from_numpy(numbers), size).numpy()
