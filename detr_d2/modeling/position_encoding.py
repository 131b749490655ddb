"""Positions of the feature map's cells, for the transformer to tell them apart. [DETR A.4]"""

import math

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ..errors import UserError
from .registries import POSITION_ENCODING_REGISTRY


@POSITION_ENCODING_REGISTRY.register()
class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of the position in the unpadded image, normalised to 0..2 pi."""

    wavelengths: Tensor

    @configurable
    def __init__(self, *, num_features: int, temperature: float = 10000.0):
        """
        Args:
            num_features: d; its first half encodes y, its second half x.
            temperature: ratio of the longest to the shortest wavelength.
        """
        super().__init__()
        if num_features % 4:
            raise UserError(
                f"Sine positions need d divisible by 4 (sine and cosine of y and of x), "
                f"not {num_features}: change MODEL.DETR.HIDDEN_DIM."
            )
        half = num_features // 2
        # In float64, so that a float64 model is exact.
        pairs = torch.arange(half, dtype=torch.float64).div(2, rounding_mode="floor")
        self.register_buffer("wavelengths", temperature ** (2 * pairs / half), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        """By MODEL.DETR."""
        return {"num_features": cfg.MODEL.DETR.HIDDEN_DIM}

    def forward(self, padding_mask: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, h, w) bool, True at padding -> (B, d, h, w) of `dtype`."""
        inside = ~padding_mask
        y = _normalised_count(inside.cumsum(1, dtype=dtype), dim=1)
        x = _normalised_count(inside.cumsum(2, dtype=dtype), dim=2)
        return torch.cat((self._encode(y), self._encode(x)), dim=3).permute(0, 3, 1, 2)

    def _encode(self, position: Tensor) -> Tensor:
        """(B, h, w) -> (B, h, w, d/2): sine and cosine of each wavelength, in turn."""
        phase = position[..., None] / self.wavelengths.to(position.dtype)
        return torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), dim=4).flatten(3)


def _normalised_count(count: Tensor, dim: int) -> Tensor:
    """Cell numbers 1, 2, ... along `dim`, scaled so that the last one is 2 pi."""
    last = count.select(dim, -1).unsqueeze(dim)
    return count / (last + 1e-6) * (2 * math.pi)


@POSITION_ENCODING_REGISTRY.register()
class PositionEmbeddingLearned(nn.Module):
    """One learned vector for each row and one for each column."""

    @configurable
    def __init__(self, *, num_features: int, max_cells: int = 50):
        """
        Args:
            num_features: d; its first half encodes x, its second half y.
            max_cells: rows and columns for which vectors are learned. [official: 50, which at
                stride 32 is an image of 1600 pixels]
        """
        super().__init__()
        self.row_embed = nn.Embedding(max_cells, num_features // 2)
        self.col_embed = nn.Embedding(max_cells, num_features // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    @classmethod
    def from_config(cls, cfg):
        """By MODEL.DETR."""
        return {"num_features": cfg.MODEL.DETR.HIDDEN_DIM}

    def forward(self, padding_mask: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, h, w) bool -> (B, d, h, w) of `dtype`; the padding has positions as well."""
        batch, h, w = padding_mask.shape
        most = self.row_embed.num_embeddings
        if max(h, w) > most:
            raise UserError(
                f"The feature map is {h} x {w} and learned positions end at {most}: "
                "use smaller images, or MODEL.DETR.POSITION_ENCODING PositionEmbeddingSine."
            )
        x = self.col_embed.weight[:w].to(dtype)[None].expand(h, w, -1)
        y = self.row_embed.weight[:h].to(dtype)[:, None].expand(h, w, -1)
        return torch.cat((x, y), dim=2).permute(2, 0, 1)[None].expand(batch, -1, -1, -1)
