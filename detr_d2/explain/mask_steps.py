"""The mask head step by step, in the plain way of the paper's figure 8. [DETR 4.4]

The model's own head never builds the concatenation, nor anything that is upsampled: see
`MaskHeadSmallConv`. Here both are built, from the same weights, so that they can be looked at. The
last step is the head's output but for rounding.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.mask_head import MaskHeadSmallConv

_LEVEL_STEPS = [
    step for n in (1, 2, 3) for step in (f"up{n}", f"adapter{n}", f"sum{n}", f"lay{n + 2}")
]
MASK_HEAD_STEPS = ["concatenation", "lay1", "lay2", *_LEVEL_STEPS, "out_lay"]


@torch.no_grad()
def mask_head_steps(
    head: MaskHeadSmallConv, projected: Tensor, maps: Tensor, features: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the mask head computes for K queries of one image.

    Args:
        projected: (d, H/32, W/32), Res5 after the 1x1 projection.
        maps: (K, M, H/32, W/32), the queries' attention maps.
        features: "res4", "res3", "res2": (C, H/16, W/16) to (C, H/4, W/4).

    Returns:
        In the order of computation

        * concatenation: (K, d + M, H/32, W/32), the image's channels and the query's maps.
        * lay1, lay2: (K, d + M, H/32, W/32), (K, d/2, H/32, W/32), after convolution, GroupNorm
          and ReLU.
        * of each of Res4, Res3, Res2 (n = 1, 2, 3, at H/16, H/8, H/4, with d/2, d/4, d/8
          channels): up<n>, what came before at the level's size; adapter<n>, the level after its
          1x1 convolution, without K; sum<n>; and lay<n + 2> with half of the channels.
        * out_lay: (K, H/4, W/4), the mask logits.
    """
    image = projected.expand(len(maps), -1, -1, -1)
    steps = {"concatenation": torch.cat((image, maps), dim=1)}
    x = steps["lay1"] = head.gn1(head.lay1(steps["concatenation"])).relu()
    x = steps["lay2"] = head.gn2(head.lay2(x)).relu()
    for n, (res, adapter, conv, norm) in enumerate(
        (
            ("res4", head.adapter1, head.lay3, head.gn3),
            ("res3", head.adapter2, head.lay4, head.gn4),
            ("res2", head.adapter3, head.lay5, head.gn5),
        ),
        start=1,
    ):
        adapted = adapter(features[res][None])[0]
        up = F.interpolate(x, size=adapted.shape[-2:])
        steps.update({f"up{n}": up, f"adapter{n}": adapted, f"sum{n}": up + adapted})
        x = steps[f"lay{n + 2}"] = norm(conv(steps[f"sum{n}"])).relu()
    steps["out_lay"] = head.out_lay(x)[:, 0]
    return steps
