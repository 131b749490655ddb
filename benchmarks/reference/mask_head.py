"""The mask branch on all N queries, with what the image gives expanded to each of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionMap(nn.Module):
    """Where each query looks, for each of M heads; the weights of a query sum to 1."""

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_linear, self.k_linear = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, queries: Tensor, memory: Tensor, padding_mask: Tensor) -> Tensor:
        """(B, N, d), (B, d, h, w), (B, h, w) -> (B, N, M, h, w)."""
        q = self.q_linear(queries).unflatten(2, (self.num_heads, -1))
        k = F.conv2d(memory, self.k_linear.weight[:, :, None, None], self.k_linear.bias)
        k = k.unflatten(1, (self.num_heads, -1))
        weights = torch.einsum("bqnc,bnchw->bqnhw", q * q.shape[-1] ** -0.5, k)
        weights = weights.masked_fill(padding_mask[:, None, None], float("-inf"))
        return weights.flatten(2).softmax(-1).view_as(weights)


class MaskHead(nn.Module):
    """Convolutions over each query's maps, larger step by step with the backbone's features."""

    lay1: nn.Conv2d
    lay2: nn.Conv2d
    gn1: nn.GroupNorm
    gn2: nn.GroupNorm

    def __init__(self, d_model: int, num_maps: int, backbone_channels: list[int]):
        """
        Args:
            backbone_channels: of Res4, Res3, Res2.
        """
        super().__init__()
        widths = [d_model + num_maps] * 2 + [d_model // n for n in (2, 4, 8, 16)]
        for n in range(1, 6):
            setattr(self, f"lay{n}", nn.Conv2d(widths[n - 1], widths[n], 3, padding=1))
            setattr(self, f"gn{n}", nn.GroupNorm(8, widths[n]))
        self.out_lay = nn.Conv2d(widths[5], 1, 3, padding=1)
        for n, channels in enumerate(backbone_channels, 1):
            setattr(self, f"adapter{n}", nn.Conv2d(channels, widths[n + 1], 1))

    def forward(self, projected: Tensor, maps: Tensor, features: dict[str, Tensor]) -> Tensor:
        """(B, d, h, w), (B, N, M, h, w), res4, res3, res2 -> (B, N, H/4, W/4)."""
        batch, num_queries = maps.shape[:2]
        x = torch.cat((_for_each_query(projected, num_queries), maps.flatten(0, 1)), 1)
        x = F.relu(self.gn1(self.lay1(x)))
        x = F.relu(self.gn2(self.lay2(x)))
        for n, name in enumerate(("res4", "res3", "res2"), 1):
            adapted = getattr(self, f"adapter{n}")(features[name])
            adapted = _for_each_query(adapted, num_queries)
            x = adapted + F.interpolate(x, size=adapted.shape[-2:], mode="nearest")
            x = F.relu(getattr(self, f"gn{n + 2}")(getattr(self, f"lay{n + 2}")(x)))
        return self.out_lay(x).view(batch, num_queries, *x.shape[-2:])


def _for_each_query(per_image: Tensor, num_queries: int) -> Tensor:
    """(B, ...) -> (B N, ...)."""
    return per_image[:, None].repeat(1, num_queries, 1, 1, 1).flatten(0, 1)
