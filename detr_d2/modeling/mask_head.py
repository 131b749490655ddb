"""From box embeddings to mask logits: attention maps, then an FPN-style CNN. [DETR 4.4]

Both modules work on *packed* queries: K queries in all, those of image 0 first, then those of
image 1, and so on. So they run on matched or kept queries alone, whatever their number an image.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..errors import UserError
from .backbone import require_levels
from .computing import at_least_float32, is_traced
from .registries import ATTENTION_MAP_REGISTRY, MASK_HEAD_REGISTRY


@dataclass(frozen=True)
class MaskQueries:
    """What a mask head may want to know of K packed queries beside their attention maps.

    Attributes:
        images: (K,) int64, ascending.
        embeddings: (K, d), rows of the last decoder layer's output.
        boxes: (K, 4), predicted, relative (cx, cy, w, h); no gradient.
        logits: (K, C + 1), of the classes; no gradient.
        decoded: what the transformer gives, of all images.
        sizes: (B, 2), width and height of the images without padding, pixels.
        padded_size: (H, W) of the batch, pixels.
    """

    images: Tensor
    embeddings: Tensor
    boxes: Tensor
    logits: Tensor
    decoded: Any  # a `Decoded`; some mask heads ask for more than it has
    sizes: Tensor
    padded_size: tuple[int, int]

    @cached_property
    def probabilities(self) -> Tensor:
        """(K, C), of the classes, no-object aside, sum 1."""
        return self.logits[:, :-1].softmax(1)


@ATTENTION_MAP_REGISTRY.register()
class MHAttentionMap(nn.Module):
    """Multi-head attention that returns its weights: where each query looks in the image.

    There are no values. The softmax is taken jointly over heads and positions, so the M maps
    of a query sum to 1 together.
    """

    @configurable
    def __init__(self, *, d_model: int, num_heads: int):
        """
        Args:
            d_model: d.
            num_heads: M, maps per query.
        """
        super().__init__()
        self.num_heads = num_heads
        self.scale = (d_model / num_heads) ** -0.5
        self.q_linear = nn.Linear(d_model, d_model)
        self.k_linear = nn.Linear(d_model, d_model)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    @classmethod
    def from_config(cls, cfg):
        """By MODEL.DETR."""
        return {"d_model": cfg.MODEL.DETR.HIDDEN_DIM, "num_heads": cfg.MODEL.DETR.NHEADS}

    def forward(self, queries: list[Tensor], memory: Tensor, padding_mask: Tensor | None) -> Tensor:
        """
        Args:
            queries: for each of the B images, (K_b, d) box embeddings: rows of the last decoder
                layer's output.
            memory: (B, d, H/32, W/32), the encoded image.
            padding_mask: (B, H/32, W/32) bool, True at padding; None where there is none.

        Returns:
            (K, M, H/32, W/32), K = sum of K_b.
        """
        d = self.q_linear.out_features // self.num_heads
        q = [self.q_linear(q_b).view(-1, self.num_heads, d) * self.scale for q_b in queries]
        k = self.k_linear(memory.permute(0, 2, 3, 1))
        k = k.view(*k.shape[:3], self.num_heads, d)
        # One product an image, since all of its queries share the keys.
        scores = torch.cat([torch.einsum("kmc,hwmc->kmhw", q_b, k_b) for q_b, k_b in zip(q, k)])
        if padding_mask is not None:
            padding = _repeat(padding_mask, [len(q_b) for q_b in queries])
            scores = scores.masked_fill(padding[:, None], float("-inf"))
        return scores.flatten(1).softmax(1).view_as(scores)


@MASK_HEAD_REGISTRY.register()
class MaskHeadSmallConv(nn.Module):
    """Five 3x3 convolutions from H/32 to H/4, taking in Res4, Res3 and Res2 on the way.

    Half of what enters the convolutions is the same for all queries of an image: the projected
    Res5 and the adapted Res4..Res2. Convolution is linear, so that half is convolved once per
    image and added to the convolution of what is the query's own:

        conv([image, maps]) = conv_image(image) + conv_maps(maps)
        conv(adapter(Res) + up(x)) = conv(adapter(Res)) + conv(up(x))

    and conv(up(x)), a 3x3 convolution of a nearest 2x upsampling, is done without expanding x
    (`conv_of_upsampled`). Results are those of the plain computation but for rounding.

    For the backward pass each layer keeps what its norm and its convolution are given, no more:
    sums and ReLUs, whose own derivative does not need their input, are done in place.
    """

    @configurable
    def __init__(
        self,
        *,
        d_model: int,
        num_maps: int,
        backbone_channels: tuple[int, int, int],
        maps_init_gain: float = 1.0,
    ):
        """
        Args:
            d_model: d, channels of the projected Res5.
            num_maps: M, attention maps per query.
            backbone_channels: of Res4, Res3, Res2.
            maps_init_gain: factor on the initial weights of the maps, whose entries are small.
        """
        super().__init__()
        if d_model % 128 or (d_model + num_maps) % 8:
            raise UserError(
                f"MaskHeadSmallConv's GroupNorm(8) needs d divisible by 128 and d + M by 8, not "
                f"d = {d_model}, M = {num_maps}: change MODEL.DETR.HIDDEN_DIM or NHEADS."
            )
        widths = [d_model + num_maps] + [d_model // n for n in (2, 4, 8, 16)]
        self.d_model = d_model
        self.lay1 = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.gn1 = nn.GroupNorm(8, widths[0])
        self.lay2 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.gn2 = nn.GroupNorm(8, widths[1])
        self.lay3 = nn.Conv2d(widths[1], widths[2], 3, padding=1)
        self.gn3 = nn.GroupNorm(8, widths[2])
        self.lay4 = nn.Conv2d(widths[2], widths[3], 3, padding=1)
        self.gn4 = nn.GroupNorm(8, widths[3])
        self.lay5 = nn.Conv2d(widths[3], widths[4], 3, padding=1)
        self.gn5 = nn.GroupNorm(8, widths[4])
        self.out_lay = nn.Conv2d(widths[4], 1, 3, padding=1)
        self.adapter1 = nn.Conv2d(backbone_channels[0], widths[1], 1)
        self.adapter2 = nn.Conv2d(backbone_channels[1], widths[2], 1)
        self.adapter3 = nn.Conv2d(backbone_channels[2], widths[3], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.lay1.weight[:, d_model:] *= maps_init_gain

    @classmethod
    def from_config(cls, cfg, backbone_shape: dict[str, ShapeSpec]):
        """By MODEL.DETR.

        Raises:
            UserError: where the backbone does not give a level of stride 4 to 16.
        """
        levels = ("res4", "res3", "res2")
        require_levels(backbone_shape, levels, f"MODEL.DETR.MASK_HEAD {cfg.MODEL.DETR.MASK_HEAD}")
        return {
            "d_model": cfg.MODEL.DETR.HIDDEN_DIM,
            "num_maps": cfg.MODEL.DETR.NHEADS,
            "backbone_channels": tuple(backbone_shape[name].channels for name in levels),
            "maps_init_gain": cfg.MODEL.DETR.MAPS_INIT_GAIN,
        }

    def forward(
        self,
        projected: Tensor,
        maps: Tensor,
        counts: list[int],
        features: dict[str, Tensor],
        queries: MaskQueries | None = None,
    ) -> Tensor:
        """
        Args:
            projected: (B, d, H/32, W/32), Res5 after the 1x1 projection (not the memory).
            maps: (K, M, H/32, W/32), attention maps of the packed queries.
            counts: queries of each image, B numbers that sum to K.
            features: Res4, Res3, Res2 under "res4", "res3", "res2": (B, C, H/16, W/16) to
                (B, C, H/4, W/4).
            queries: not needed here.

        Returns:
            (K, H/4, W/4), mask logits.
        """
        image_weight, maps_weight = self.lay1.weight.split([self.d_model, maps.shape[1]], dim=1)
        of_image = F.conv2d(projected, image_weight, self.lay1.bias, padding=1)
        maps = maps.contiguous(memory_format=torch.channels_last)  # as the features are
        x = F.conv2d(maps, maps_weight, padding=1).add_(_repeat(of_image, counts))
        x = self.gn1(x).relu_()
        x = self.gn2(self.lay2(x)).relu_()
        for res, adapter, conv, norm in (
            ("res4", self.adapter1, self.lay3, self.gn3),
            ("res3", self.adapter2, self.lay4, self.gn4),
            ("res2", self.adapter3, self.lay5, self.gn5),
        ):
            of_image = conv(adapter(features[res]))
            x = conv_of_upsampled(x, conv.weight, of_image.shape[-2:])
            x = norm(x.add_(_repeat(of_image, counts))).relu_()
        return self.out_lay(x)[:, 0]

    def losses(
        self, arguments: tuple, targets: list, matches, criterion, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Weighted losses of the masks of matched queries.

        Args:
            arguments: of `forward`.
            criterion: the model's `SetCriterion`.
            size: (H, W) of the padded batch, pixels.
        """
        logits = at_least_float32(self(*arguments))
        return criterion.mask_losses(logits, targets, matches, size)


def _repeat(per_image: Tensor, counts: list[int]) -> Tensor:
    """(B, ...) -> (K, ...), each image's row once for each of its queries.

    A single image is left as (1, ...), to be broadcast without a copy.
    """
    if len(counts) == 1:
        return per_image
    rows = torch.arange(len(counts), device=per_image.device)
    rows = rows.repeat_interleave(torch.tensor(counts, device=rows.device), output_size=sum(counts))
    return per_image[rows]


def conv_of_upsampled(x: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The 3x3 convolution (padding 1, no bias) of `x` upsampled to `size` by nearest neighbour.

    Upsampling twofold repeats each pixel, so each 3x3 window of the upsampled map sees 2x2
    pixels of `x`, and the taps that fall on the same pixel can be summed beforehand. In one
    dimension, with taps (a, b, c), output 2i sees x[i-1], x[i], x[i] and output 2i+1 sees
    x[i], x[i], x[i+1]:

        out[2i] = a x[i-1] + (b + c) x[i]        out[2i+1] = (a + b) x[i] + c x[i+1]

    which is the transposed convolution of stride 2 and padding 1 with the four taps
    (c, b + c, a + b, a): 16 products where the plain way takes 36, and nothing is expanded.

    Args:
        x: (K, C, h, w).
        weight: (C', C, 3, 3).
        size: (H, W): (h, w) themselves, or 2h or 2h - 1 by 2w or 2w - 1. Others are upsampled
            in the plain way.

    Returns:
        (K, C', H, W).
    """
    (h, w), (H, W) = x.shape[-2:], size
    if is_traced():  # for sizes that it has not seen
        return F.conv2d(F.interpolate(x, size=(H, W)), weight, padding=1)
    if (h, w) == (H, W):
        return F.conv2d(x, weight, padding=1)
    if H not in (2 * h, 2 * h - 1) or W not in (2 * w, 2 * w - 1) or min(H, W) < 2:
        return F.conv2d(F.interpolate(x, size=(H, W)), weight, padding=1)

    out = F.conv_transpose2d(x, _summed_taps(weight), stride=2, padding=1)[..., :H, :W]
    # An odd size lacks the last upsampled row (column), which the line above counts in:
    # there, the window ends with the last two rows (columns) of `x`.
    if 2 * h > H:
        rows = F.interpolate(x[..., -2:, :], size=(2, W))
        out[..., -1:, :] = F.conv2d(rows, weight[..., :2, :], padding=(0, 1))
    if 2 * w > W:
        columns = F.interpolate(x[..., -2:], size=(H, 2))
        out[..., -1:] = F.conv2d(columns, weight[..., :2], padding=(1, 0))
    return out


def _summed_taps(weight: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (C, C', 4, 4): taps (a, b, c) to (c, b + c, a + b, a) on both axes."""
    for axis in (2, 3):
        a, b, c = weight.unbind(axis)
        weight = torch.stack((c, b + c, a + b, a), axis)
    return weight.transpose(0, 1)
