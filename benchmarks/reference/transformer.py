"""DETR's transformer as it was published: post-norm, attention that also gives its weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """What the two kinds of layers share."""

    def __init__(self, d_model: int, num_heads: int, dim_feedforward: int, dropout: float):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d_model, num_heads, dropout)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.linear1(x).relu())))


class EncoderLayer(Layer):
    """Self-attention and feed-forward, each with a norm after its sum."""

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """(hw, B, d) -> (hw, B, d)."""
        keys = x + positions
        x = self.norm1(x + self.dropout(self.self_attn(keys, keys, x, padding)[0]))
        return self.norm2(x + self.feed_forward(x))


class DecoderLayer(Layer):
    """Self-attention, attention to the memory and feed-forward, each with a norm after its sum."""

    def __init__(self, d_model: int, num_heads: int, dim_feedforward: int, dropout: float):
        super().__init__(d_model, num_heads, dim_feedforward, dropout)
        self.multihead_attn = nn.MultiheadAttention(d_model, num_heads, dropout)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(self, x, queries, memory, positions, padding) -> Tensor:
        """(N, B, d) -> (N, B, d)."""
        keys = x + queries
        x = self.norm1(x + self.dropout(self.self_attn(keys, keys, x)[0]))
        attended = self.multihead_attn(x + queries, memory + positions, memory, padding)[0]
        x = self.norm2(x + self.dropout(attended))
        return self.norm3(x + self.feed_forward(x))


class Transformer(nn.Module):
    """Encoder and decoder by the keys MODEL.DETR, with tokens first and the batch second."""

    encoder: Any
    decoder: Any

    def __init__(self, detr):
        super().__init__()
        layer = (detr.HIDDEN_DIM, detr.NHEADS, detr.DIM_FEEDFORWARD, detr.DROPOUT)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = nn.ModuleList(EncoderLayer(*layer) for _ in range(detr.ENC_LAYERS))
        self.decoder.layers = nn.ModuleList(DecoderLayer(*layer) for _ in range(detr.DEC_LAYERS))
        self.decoder.norm = nn.LayerNorm(detr.HIDDEN_DIM)

    def forward(self, features, padding_mask, query_embed, positions) -> tuple[Tensor, Tensor]:
        """
        Args:
            features, positions: (B, d, h, w).
            padding_mask: (B, h, w) bool.
            query_embed: (N, d).

        Returns:
            hs: (L, B, N, d), of all decoder layers.
            memory: (B, d, h, w).
        """
        batch, _, h, w = features.shape
        memory = features.flatten(2).permute(2, 0, 1)
        positions = positions.flatten(2).permute(2, 0, 1)
        queries = query_embed[:, None].repeat(1, batch, 1)
        padding = padding_mask.flatten(1)
        for layer in self.encoder.layers:
            memory = layer(memory, positions, padding)
        x = torch.zeros_like(queries)
        outputs = []
        for layer in self.decoder.layers:
            x = layer(x, queries, memory, positions, padding)
            outputs.append(self.decoder.norm(x))
        hs = torch.stack(outputs).transpose(1, 2)
        return hs, memory.permute(1, 2, 0).reshape(batch, -1, h, w)


def sine_positions(padding_mask: Tensor, d_model: int, dtype: torch.dtype) -> Tensor:
    """(B, h, w) bool, True at padding -> (B, d, h, w)."""
    half = d_model // 2
    inside = ~padding_mask
    y, x = inside.cumsum(1, dtype=dtype), inside.cumsum(2, dtype=dtype)
    y = y / (y[:, -1:, :] + 1e-6) * 2 * math.pi
    x = x / (x[:, :, -1:] + 1e-6) * 2 * math.pi
    exponents = torch.arange(half, dtype=torch.float64, device=padding_mask.device) // 2 * 2 / half
    wavelengths = (10000**exponents).to(dtype)
    encoded = []
    for position in (y, x):
        phase = position[:, :, :, None] / wavelengths
        pairs = (phase[:, :, :, 0::2].sin(), phase[:, :, :, 1::2].cos())
        encoded.append(torch.stack(pairs, dim=4).flatten(3))
    return torch.cat(encoded, dim=3).permute(0, 3, 1, 2)
