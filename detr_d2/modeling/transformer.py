"""DETR's encoder and decoder. [DETR 3.2 and A.3]

Positions are added to queries and keys, never to values, in every attention of every layer.
"""

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from .linear import Linear
from .registries import TRANSFORMER_REGISTRY


@TRANSFORMER_REGISTRY.register()
class Transformer(nn.Module):
    """Encode the image, then decode N object queries from it in parallel."""

    @configurable
    def __init__(
        self,
        *,
        d_model: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        dim_feedforward: int,
        dropout: float,
        pre_norm: bool,
    ):
        """
        Args:
            d_model: d, channels of every token.
            num_heads: M.
            dim_feedforward: channels between the two linear layers of each block.
            dropout: probability.
            pre_norm: LayerNorm before each attention and feed-forward, instead of after.
        """
        super().__init__()
        layer = (d_model, num_heads, dim_feedforward, dropout, pre_norm)
        self.encoder = TransformerEncoder(
            [TransformerEncoderLayer(*layer) for _ in range(num_encoder_layers)],
            # A post-norm encoder ends with a LayerNorm as it is.
            nn.LayerNorm(d_model) if pre_norm else None,
        )
        self.decoder = TransformerDecoder(
            [TransformerDecoderLayer(*layer) for _ in range(num_decoder_layers)],
            nn.LayerNorm(d_model),
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    @classmethod
    def from_config(cls, cfg):
        detr = cfg.MODEL.DETR
        return {
            "d_model": detr.HIDDEN_DIM,
            "num_heads": detr.NHEADS,
            "num_encoder_layers": detr.ENC_LAYERS,
            "num_decoder_layers": detr.DEC_LAYERS,
            "dim_feedforward": detr.DIM_FEEDFORWARD,
            "dropout": detr.DROPOUT,
            "pre_norm": detr.PRE_NORM,
        }

    def forward(
        self,
        features: Tensor,
        padding_mask: Tensor | None,
        query_embed: Tensor,
        positions: Tensor,
        all_layers: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            features: (B, d, h, w), the projected Res5.
            padding_mask: (B, h, w) bool, True at padding; None where there is none.
            query_embed: (N, d), the learned object queries.
            positions: (B, d, h, w).
            all_layers: False gives the output of the last decoder layer alone.

        Returns:
            hs: (L, B, N, d), the outputs of the decoder's L layers (or of the last, L = 1).
            memory: (B, d, h, w), the encoded image.
        """
        batch, _, h, w = features.shape
        tokens = features.flatten(2).transpose(1, 2)
        positions = positions.flatten(2).transpose(1, 2)
        padding = None if padding_mask is None else padding_mask.flatten(1)
        queries = query_embed[None].expand(batch, -1, -1)

        memory = self.encoder(tokens, positions, padding)
        hs = self.decoder(queries, memory, positions, padding, all_layers)
        return hs, memory.transpose(1, 2).unflatten(2, (h, w))


class TransformerEncoder(nn.Module):
    def __init__(self, layers: list[nn.Module], norm: nn.Module | None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """(B, hw, d) -> (B, hw, d)."""
        for layer in self.layers:
            tokens = layer(tokens, positions, padding)
        return tokens if self.norm is None else self.norm(tokens)


class TransformerDecoder(nn.Module):
    def __init__(self, layers: list[nn.Module], norm: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        # One LayerNorm, shared by the outputs of all layers.
        self.norm = norm

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        positions: Tensor,
        padding: Tensor | None,
        all_layers: bool,
    ) -> Tensor:
        """Decode from zeros; `queries` (B, N, d) are the positions of the N slots.

        Returns:
            (L, B, N, d), or (1, B, N, d) without `all_layers`.
        """
        target = torch.zeros_like(queries)
        memory_keys = memory + positions
        outputs = []
        for layer in self.layers:
            target = layer(target, queries, memory, memory_keys, padding)
            outputs.append(target)
        return self.norm(torch.stack(outputs if all_layers else outputs[-1:]))


class _Layer(nn.Module):
    """What encoder and decoder layers share: feed-forward, residual sums, where norms stand."""

    def __init__(self, d_model, num_heads, dim_feedforward, dropout, pre_norm):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d_model, num_heads, dropout, batch_first=True)
        self.linear1 = Linear(d_model, dim_feedforward)
        self.linear2 = Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, x: Tensor, norm: nn.Module, block) -> Tensor:
        """x + block(x), with `norm` before the block (pre-norm) or after the sum (post-norm)."""
        if self.pre_norm:
            return x + self.dropout(block(norm(x)))
        return norm(x + self.dropout(block(x)))

    def self_attention(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        keys = x + positions
        return _attend(self.self_attn, keys, keys, x, padding)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.linear1(x).relu_()))


class TransformerEncoderLayer(_Layer):
    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """(B, hw, d) -> (B, hw, d)."""
        tokens = self.residual(
            tokens, self.norm1, lambda x: self.self_attention(x, positions, padding)
        )
        return self.residual(tokens, self.norm2, self.feed_forward)


class TransformerDecoderLayer(_Layer):
    def __init__(self, d_model, num_heads, dim_feedforward, dropout, pre_norm):
        super().__init__(d_model, num_heads, dim_feedforward, dropout, pre_norm)
        self.multihead_attn = nn.MultiheadAttention(d_model, num_heads, dropout, batch_first=True)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(
        self,
        target: Tensor,
        queries: Tensor,
        memory: Tensor,
        memory_keys: Tensor,
        padding: Tensor | None,
    ) -> Tensor:
        """(B, N, d) -> (B, N, d); `memory_keys` is `memory` with its positions added."""
        target = self.residual(target, self.norm1, lambda x: self.self_attention(x, queries, None))
        target = self.residual(
            target,
            self.norm2,
            lambda x: _attend(self.multihead_attn, x + queries, memory_keys, memory, padding),
        )
        return self.residual(target, self.norm3, self.feed_forward)


def _attend(attention, queries, keys, values, padding: Tensor | None) -> Tensor:
    # Without the weights, PyTorch takes its fused attention.
    return attention(queries, keys, values, key_padding_mask=padding, need_weights=False)[0]
