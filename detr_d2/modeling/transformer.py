"""DETR's encoder and decoder. [DETR 3.2 and A.3]

Positions are added to queries and keys, never to values, in every attention of every layer.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from .matcher import HungarianMatcher, Matches, Targets
from .registries import TRANSFORMER_REGISTRY


@dataclass(frozen=True)
class Context:
    """What a transformer may want to know of a batch of B images beside the projected Res5.

    Attributes:
        image: (B, 3, H, W), normalised and padded.
        features: the backbone's maps by name, (B, C, H/4, W/4) to (B, C, H/32, W/32).
        sizes: (B, 2), width and height of the images without padding, pixels.
        box_head: (..., d) -> (..., 4), the model's own.
        targets: of the B images, in training alone; otherwise None.
        given: (B, T, 4), boxes of things that are known, whose masks are wanted; otherwise None.
    """

    image: Tensor
    features: dict[str, Tensor]
    sizes: Tensor
    box_head: nn.Module
    targets: list[Targets] | None
    given: Tensor | None = None


DecodedT = TypeVar("DecodedT", bound="Decoded")


@dataclass(frozen=True)
class Decoded:
    """What a transformer makes of the image and the queries.

    Attributes:
        hs: (L, B, N, d), the outputs of the decoder's L layers (or of the last, L = 1).
        memory: (B, d, h, w), the encoded image.
    """

    hs: Tensor
    memory: Tensor

    def of_images(self: DecodedT, images: slice) -> DecodedT:
        """The same for some images of the batch."""
        return replace(self, hs=self.hs[:, images], memory=self.memory[images])

    def own(self, of_queries: Tensor) -> Tensor:
        """(L, B, N, ...) -> the same for the queries that are matched and give results: all."""
        return of_queries

    def with_further(self, matches: Matches) -> Matches:
        """The pairs whose masks are trained, given those of the matched queries: no others."""
        return matches

    def queries_of_given(self, matcher: HungarianMatcher, *of_image: Tensor) -> Tensor:
        """(T,), the queries of the things of one image whose boxes were given: those that are
        nearest to them. The arguments are those of `HungarianMatcher.nearest`."""
        return matcher.nearest(*of_image)


@TRANSFORMER_REGISTRY.register()
class Transformer(nn.Module):
    """Encode the image, then decode N object queries from it in parallel."""

    # The classes that have a query of their own, in the order of these queries.
    fixed_classes: tuple[int, ...] = ()
    # The maps of a pyramid that are in what it gives, the coarsest first.
    pyramid_outputs: tuple[str, ...] = ()

    @configurable
    def __init__(
        self,
        *,
        num_queries: int,
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
            num_queries: N, which the model has to learn a position for.
            d_model: d, channels of every token.
            num_heads: M.
            dim_feedforward: channels between the two linear layers of each block.
            dropout: probability.
            pre_norm: LayerNorm before each attention and feed-forward, instead of after.
        """
        super().__init__()
        self.num_learned = num_queries
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
    def fixed_classes_of(cls, cfg) -> tuple[int, ...]:
        """What `fixed_classes` of a model that is built from `cfg` are."""
        return ()

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        """By MODEL.DETR."""
        detr = cfg.MODEL.DETR
        return {
            "num_queries": detr.NUM_OBJECT_QUERIES,
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
        projected: Tensor,
        padding_mask: Tensor | None,
        query_embed: Tensor,
        positions: Tensor,
        all_layers: bool = True,
        context: Context | None = None,
    ) -> Decoded:
        """
        Args:
            projected: (B, d, h, w), Res5 after the 1x1 projection.
            padding_mask: (B, h, w) bool, True at padding; None where there is none.
            query_embed: (N, d), the learned object queries.
            positions: (B, d, h, w).
            all_layers: False gives the output of the last decoder layer alone.
            context: not needed here.
        """
        tokens, positions, padding = self.as_tokens(projected, positions, padding_mask)
        queries = query_embed[None].expand(len(tokens), -1, -1)
        memory = self.encoder(tokens, positions, padding)
        hs = self.decoder(queries, memory, positions, padding, all_layers)
        return Decoded(hs, memory.transpose(1, 2).view(projected.shape))

    @staticmethod
    def as_tokens(projected: Tensor, positions: Tensor, padding_mask: Tensor | None):
        """Maps (B, d, h, w) -> tokens (B, hw, d), and (B, h, w) -> (B, hw) or None."""
        padding = None if padding_mask is None else padding_mask.flatten(1)
        return projected.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2), padding

    def read(self, logits: Tensor, deltas: Tensor, decoded: Decoded) -> tuple[Tensor, Tensor]:
        """What the outputs of the model's class and box layers mean.

        Args:
            logits: (L, B, N, C + 1), `class_embed` of `decoded.hs`.
            deltas: (L, B, N, 4), `bbox_embed` of `decoded.hs`.

        Returns:
            Class logits, and relative boxes (cx, cy, w, h).
        """
        return logits, deltas.sigmoid()

    def losses(
        self, logits, boxes, decoded: Decoded, context: Context, criterion
    ) -> dict[str, Tensor]:
        """Weighted losses of what the transformer has beside DETR's queries: none here.

        Args:
            logits, boxes: as `read` returns them.
            criterion: the model's `SetCriterion`.
        """
        return {}


class TransformerEncoder(nn.Module):
    """Layers over all places of the image, whose output is the memory.

    Args:
        norm: after the last layer; None where each layer ends with one.
    """

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
    """Layers in which N queries see each other and the memory.

    Args:
        norm: of the output of every layer.
    """

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
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, x: Tensor, norm: nn.Module, block) -> Tensor:
        """x + block(x), with `norm` before the block (pre-norm) or after the sum (post-norm)."""
        if self.pre_norm:
            return x + self.dropout(block(norm(x)))
        return norm(x + self.dropout(block(x)))

    def self_attention(
        self, x: Tensor, positions: Tensor, padding: Tensor | None, mask: Tensor | None = None
    ) -> Tensor:
        keys = x + positions
        return _attend(self.self_attn, keys, keys, x, padding, mask)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.linear1(x).relu_()))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward network. [DETR A.3, figure 10]"""

    def forward(self, tokens: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """(B, hw, d) -> (B, hw, d)."""
        tokens = self.residual(
            tokens, self.norm1, lambda x: self.self_attention(x, positions, padding)
        )
        return self.residual(tokens, self.norm2, self.feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention of queries, attention to the memory, feed-forward. [DETR A.3, figure 10]"""

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
        region: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, d) -> (B, N, d).

        Args:
            memory_keys: `memory` with its positions added.
            region: (B, N, d), added to what each query sees in the memory.
            mask: (N, N) bool, True where a query may not look at another.
        """
        target = self.residual(
            target, self.norm1, lambda x: self.self_attention(x, queries, None, mask)
        )

        def look(x: Tensor) -> Tensor:
            keys = x + queries
            seen = _attend(self.multihead_attn, keys, memory_keys, memory, padding)
            return seen if region is None else seen + region

        target = self.residual(target, self.norm2, look)
        return self.residual(target, self.norm3, self.feed_forward)


def _attend(attention, queries, keys, values, padding: Tensor | None, mask=None) -> Tensor:
    # Without the weights, PyTorch takes its fused attention.
    return attention(
        queries, keys, values, key_padding_mask=padding, need_weights=False, attn_mask=mask
    )[0]
