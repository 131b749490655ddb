"""A transformer whose decoder is shown what is in each query's box.

DETR's cross-attention is an average over the image, which has no left and right: where in a box an
edge is, and so what to correct, is lost. Here each decoder layer adds the features of the box that
the layer before has found, their places kept (as the box head of Faster R-CNN sees them). What is
added begins at zero, so that with the weights of a DETR the model begins as that DETR.
"""

from dataclasses import dataclass

import torch
from detectron2.config import configurable
from torch import Tensor, nn
from torchvision.ops import box_convert

from .linear import Linear
from .pyramid import FeaturePyramid, Levels
from .registries import TRANSFORMER_REGISTRY
from .transformer import Context, Decoded, Transformer

_ENLARGED = 1.1  # times a box: what is looked at


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

    def of_images(self, images: slice) -> "RegionDecoded":
        return RegionDecoded(
            self.hs[:, images],
            self.memory[images],
            self.levels.of_images(images),
            self.references[:, images],
        )


@TRANSFORMER_REGISTRY.register()
class RegionTransformer(Transformer):
    """`Transformer`, and the features of each query's box in every decoder layer."""

    pyramid_outputs = ("res2",)  # what boxes are looked at in

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
        for regions in self.regions:
            nn.init.zeros_(regions.out.weight)
            nn.init.zeros_(regions.out.bias)

    @classmethod
    def from_config(cls, cfg, backbone_shape):
        return {
            **super().from_config(cfg, backbone_shape),
            "backbone_shape": backbone_shape,
            "pyramid_channels": cfg.MODEL.DETR.PYRAMID_CHANNELS,
            "region_resolution": cfg.MODEL.DETR.REGION_RESOLUTION,
        }

    def forward(
        self,
        projected: Tensor,
        padding_mask: Tensor | None,
        query_embed: Tensor,
        positions: Tensor,
        all_layers: bool,
        context: Context,
    ) -> RegionDecoded:
        """See `Transformer.forward`."""
        tokens, positions, padding = self.as_tokens(projected, positions, padding_mask)
        memory = self.encoder(tokens, positions, padding)
        memory_map = memory.transpose(1, 2).unflatten(2, projected.shape[-2:])
        levels = self.pyramid(memory_map, context.features, context.image)

        queries = query_embed.expand(len(tokens), -1, -1)
        # Before the first layer nothing is known: it looks at the whole image.
        boxes = projected.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(*queries.shape[:2], 4)
        target, keys = torch.zeros_like(queries), memory + positions
        outputs, references = [], []
        for layer, regions in zip(self.decoder.layers, self.regions):
            region = regions(levels, boxes, context.sizes)
            target = layer(target, queries, memory, keys, padding, region)
            outputs.append(self.decoder.norm(target))
            references.append(boxes)
            boxes = context.box_head(outputs[-1]).sigmoid().detach()
        kept = slice(None) if all_layers else slice(-1, None)
        return RegionDecoded(
            torch.stack(outputs[kept]), memory_map, levels, torch.stack(references[kept])
        )


class RegionFeatures(nn.Module):
    """What is in a box, its place in it kept: R x R points, flattened, two linear layers."""

    def __init__(self, resolution: int, channels: int, d_model: int):
        super().__init__()
        self.resolution = resolution
        self.flat = Linear(resolution**2 * channels, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.out = Linear(d_model, d_model)

    def forward(self, levels: Levels, boxes: Tensor, sizes: Tensor) -> Tensor:
        """
        Args:
            boxes: (B, N, 4), relative (cx, cy, w, h).
            sizes: (B, 2), width and height of the images without padding, pixels.

        Returns:
            (B, N, d).
        """
        batch, number = boxes.shape[:2]
        boxes = torch.cat((boxes[..., :2], boxes[..., 2:] * _ENLARGED), -1)
        boxes = box_convert(boxes, "cxcywh", "xyxy") * sizes[:, None].repeat(1, 1, 2)
        images = torch.arange(batch, device=boxes.device).repeat_interleave(number)
        seen = levels.regions(boxes.flatten(0, 1), images, self.resolution).flatten(1)
        return self.out(self.norm(self.flat(seen)).relu()).unflatten(0, (batch, number))
