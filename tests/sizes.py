"""Masks of all kinds and sizes, and their logits at every pixel the plain way, for tests."""

import torch
import torch.nn.functional as F

from detr_d2.modeling.upsampling import resize_nearest

# The logits, the padded batch, the image, the result.
SIZES = [
    ((7, 9), (28, 36), (28, 36), (28, 36)),
    ((7, 9), (27, 34), (23, 34), (15, 20)),
    ((7, 9), (25, 33), (25, 30), (61, 47)),
    ((7, 9), (28, 36), (28, 36), (3, 4)),
    ((20, 23), (20, 23), (17, 23), (17, 23)),  # logits of the image's own resolution
    ((20, 23), (20, 23), (20, 19), (31, 9)),
    ((1, 1), (3, 4), (2, 3), (5, 6)),
    ((12, 1), (12, 1), (12, 1), (12, 1)),
]


def random_masks(kind: str, queries: int, size: tuple[int, int]) -> torch.Tensor:
    """(K, *size) float64: some of one colour, smooth, or noise."""
    if kind == "noise":
        return torch.randn(queries, *size).double()
    if kind == "flat":
        return torch.randn(queries, 1, 1).expand(-1, *size).double()
    return 4 * F.interpolate(torch.randn(1, queries, 3, 3), size, mode="bicubic")[0].double()


def logits_of(masks, padded_size, image_size, output_size, nearest):
    """(K, *output_size)."""
    if nearest:
        full = F.interpolate(masks[:, None], size=padded_size, mode="bilinear")[:, 0]
        return resize_nearest(full[:, : image_size[0], : image_size[1]], output_size)
    sizes = zip(masks.shape[1:], padded_size, image_size, output_size)
    down, along = (tents(*lengths) for lengths in sizes)
    return down @ masks @ along.T


def tents(old: int, padded: int, image: int, new: int) -> torch.Tensor:
    """(new, old): the weight that each logit has at each pixel, 1 where it lies and 0 a step on."""
    centres = (torch.arange(new).double() + 0.5) / new  # of the image, 0 to 1
    places = (centres * image / padded * old - 0.5).clamp(0, old - 1)
    return (1 - (places[:, None] - torch.arange(old)).abs()).clamp(min=0)
