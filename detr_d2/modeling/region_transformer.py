"""A transformer whose decoder is shown what is in each query's box.

DETR's cross-attention is an average over the image, which has no left and right: where in a box an
edge is, and so what to correct, is lost. Here each decoder layer adds the features of the box that
the layer before has found, their places kept (as the box head of Faster R-CNN sees them). What is
added begins at zero, so that with the weights of a DETR the model begins as that DETR.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from detectron2.config import configurable
from torch import Tensor, nn

from ..errors import UserError
from .backbone import require_levels
from .boxes import enlarged, pixels_xyxy
from .computing import at_least_float32
from .pyramid import FINEST, NAMES, FeaturePyramid, Levels
from .registries import TRANSFORMER_REGISTRY
from .transformer import Context, Decoded, Transformer

_ENLARGED = 1.1  # times a box: what is looked at


RegionDecodedT = TypeVar("RegionDecodedT", bound="RegionDecoded")


@dataclass(frozen=True)
class RegionDecoded(Decoded):
    """
    Attributes:
        levels: the pyramid of the encoded image.
        references: (L, B, N, 4), (cx, cy, w, h) relative to the image: the box that each layer has
            looked at.
    """

    levels: Levels
    references: Tensor

    def of_images(self: RegionDecodedT, images: slice) -> RegionDecodedT:
        """See `Decoded.of_images`."""
        return replace(
            super().of_images(images),
            levels=self.levels.of_images(images),
            references=self.references[:, images],
        )


@dataclass(frozen=True)
class Seen:
    """What the decoder looks at.

    Attributes:
        memory: (B, hw, d), the encoded image, and keys: the same with its positions added.
        padding: (B, hw) bool, True at padding; None where there is none.
        memory_map: (B, d, h, w), the memory as a map.
        levels: the pyramid.
    """

    memory: Tensor
    keys: Tensor
    padding: Tensor | None
    memory_map: Tensor
    levels: Levels


@TRANSFORMER_REGISTRY.register()
class RegionTransformer(Transformer):
    """`Transformer`, and the features of each query's box in every decoder layer."""

    pyramid_outputs: tuple[str, ...] = ("res2",)  # what boxes are looked at in
    regions_begin_at_zero = True
    whole_image: Tensor

    @configurable
    def __init__(
        self, *, backbone_shape: dict, pyramid_channels: int, region_resolution: int, **transformer
    ):
        """
        Args:
            backbone_shape: channels and strides of the backbone's maps, by name.
            pyramid_channels: p.
            region_resolution: R, a box is seen at R x R points.
            **transformer: the arguments of `Transformer`.
        """
        super().__init__(**transformer)
        d = transformer["d_model"]
        self.pyramid = FeaturePyramid(
            d_model=d,
            channels=pyramid_channels,
            backbone_shape=backbone_shape,
            outputs=self.pyramid_outputs,
        )
        self.regions = nn.ModuleList(
            RegionFeatures(region_resolution, pyramid_channels, d) for _ in self.decoder.layers
        )
        if self.regions_begin_at_zero:
            for regions in self.regions:
                assert isinstance(regions, RegionFeatures)
                nn.init.zeros_(regions.out.weight)
                nn.init.zeros_(regions.out.bias)
        self.register_buffer("whole_image", torch.tensor([0.5, 0.5, 1.0, 1.0]), persistent=False)

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        """By MODEL.DETR.

        Raises:
            UserError: where the backbone lacks a level, or has none of stride 4.
        """
        key = f"MODEL.DETR.TRANSFORMER {cfg.MODEL.DETR.TRANSFORMER}"
        require_levels(backbone_shape, NAMES, key)
        if backbone_shape["res2"].stride != FINEST:
            raise UserError(
                f"{key} sees boxes at a stride of {FINEST} pixels, and the finest level that it is "
                f"given has {backbone_shape['res2'].stride}: take a backbone with a level of it, "
                "or correct MODEL.DETR.IN_FEATURES."
            )
        return {
            **super().from_config(cfg, backbone_shape),
            "backbone_shape": backbone_shape,
            "pyramid_channels": cfg.MODEL.DETR.PYRAMID_CHANNELS,
            "region_resolution": cfg.MODEL.DETR.REGION_RESOLUTION,
        }

    def forward(  # type: ignore[override]  # it needs a context
        self,
        projected: Tensor,
        padding_mask: Tensor | None,
        query_embed: Tensor,
        positions: Tensor,
        all_layers: bool,
        context: Context,
    ) -> RegionDecoded:
        """See `Transformer.forward`."""
        seen = self.see(projected, padding_mask, positions, context)
        # Before the first layer nothing is known: it looks at the whole image.
        boxes = self.whole_image.expand(len(projected), len(query_embed), 4)
        content = torch.zeros_like(query_embed).expand(len(projected), -1, -1)
        hs, references = self.decode(seen, content, boxes, query_embed, all_layers, context)
        return RegionDecoded(hs, seen.memory_map, seen.levels, references)

    def see(
        self,
        projected: Tensor,
        padding_mask: Tensor | None,
        positions: Tensor,
        context: Context,
    ) -> Seen:
        """Encoder and pyramid."""
        tokens, positions, padding = self.as_tokens(projected, positions, padding_mask)
        memory = self.encoder(tokens, positions, padding)
        memory_map = memory.transpose(1, 2).view(projected.shape)
        levels = self.pyramid(memory_map, context.features, context.image)
        return Seen(memory, memory + positions, padding, memory_map, levels)

    def decode(
        self,
        seen: Seen,
        content: Tensor,
        boxes: Tensor,
        query_embed: Tensor,
        all_layers: bool,
        context: Context,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The decoder's layers, each of which looks where the one before has found its boxes.

        Args:
            content: (B, N, d), what the queries begin as.
            boxes: (B, N, 4), where the first layer looks, relative (cx, cy, w, h).
            mask: (N, N) bool, True where a query may not look at another.

        Returns:
            hs (L, B, N, d) and references (L, B, N, 4); L = 1 without `all_layers`.
        """
        target = content
        outputs: list[Tensor] = []
        references: list[Tensor] = []
        for layer, regions in zip(self.decoder.layers, self.regions):
            if outputs:
                boxes = self.next_boxes(outputs[-1], boxes, context.box_head)
            place = self.places(query_embed, boxes)
            region = self.region(regions, seen.levels, boxes, context.sizes)
            target = layer(target, place, seen.memory, seen.keys, seen.padding, region, mask)
            outputs.append(self.decoder.norm(target))
            references.append(boxes)
        kept = slice(None) if all_layers else slice(-1, None)
        return torch.stack(outputs[kept]), torch.stack(references[kept])

    @torch.no_grad()
    def next_boxes(self, hs: Tensor, boxes: Tensor, box_head: nn.Module) -> Tensor:
        """(B, N, d), (B, N, 4) -> (B, N, 4), what is found; in full precision, as the results."""
        with torch.autocast(hs.device.type, enabled=False):
            deltas = box_head(hs.to(boxes.dtype))
        return self.boxes_of(at_least_float32(deltas), boxes)

    def boxes_of(self, deltas: Tensor, references: Tensor) -> Tensor:
        """(..., 4) outputs of the box layers and (..., 4) references -> boxes (..., 4)."""
        return deltas.sigmoid()

    def places(self, query_embed: Tensor, boxes: Tensor) -> Tensor:
        """(N, d) and (B, N, 4) -> (B, N, d), what is added to queries as their position."""
        return query_embed.expand(len(boxes), -1, -1)

    def region(self, regions: nn.Module, levels: Levels, boxes: Tensor, sizes: Tensor) -> Tensor:
        """(B, N, d), the features of the boxes of queries."""
        return regions(levels, boxes, sizes)


class RegionFeatures(nn.Module):
    """What is in a box, its place in it kept: R x R points, flattened, two linear layers."""

    def __init__(self, resolution: int, channels: int, d_model: int):
        super().__init__()
        self.resolution = resolution
        self.flat = nn.Linear(resolution**2 * channels, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, levels: Levels, boxes: Tensor, sizes: Tensor) -> Tensor:
        """
        Args:
            boxes: (B, N, 4), relative (cx, cy, w, h).
            sizes: (B, 2), width and height of the images without padding, pixels.

        Returns:
            (B, N, d).
        """
        batch, number = boxes.shape[:2]
        boxes = pixels_xyxy(enlarged(boxes, _ENLARGED), sizes[:, None])
        images = torch.arange(batch, device=boxes.device)[:, None].expand(batch, number).flatten()
        seen = levels.regions(boxes.flatten(0, 1), images, self.resolution).flatten(1)
        seen = self.out(self.norm(self.flat(seen)).relu())
        return seen.view(batch, number, self.out.out_features)
