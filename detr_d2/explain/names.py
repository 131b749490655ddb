"""What the tensors of a trace are called, their shapes in the paper's letters, and what they are.

H x W is the image as the model gets it, pixels; halves are rounded up at each level. d channels,
M heads, N queries, C classes, K queries that the mask head runs on, P that take part in the
panoptic map, T segments of the ground truth. H' x W' is the original image.
"""

import re

# {s} is the stride of Res5: 32, or 16 with DC5. Numbers of layers start at 0.
_TENSORS = [
    ("image", "3 x H x W", "the photograph, resized and normalised"),
    ("res2", "C2 x H/4 x W/4", "Res2 of the backbone"),
    ("res3", "C3 x H/8 x W/8", "Res3 of the backbone"),
    ("res4", "C4 x H/16 x W/16", "Res4 of the backbone"),
    ("res5", "C5 x H/{s} x W/{s}", "Res5 of the backbone"),
    ("projected", "d x H/{s} x W/{s}", "Res5 after the 1x1 projection to d channels"),
    ("positions", "d x H/{s} x W/{s}", "the position encoding, added to queries and keys"),
    (r"encoder\.\d+", "d x H/{s} x W/{s}", "output of an encoder layer"),
    (
        r"encoder\.\d+\.self_attention",
        "M x H/{s}*W/{s} x H/{s}*W/{s}",
        "where each cell of the image looks",
    ),
    ("memory", "d x H/{s} x W/{s}", "the encoder's output: the encoded image"),
    ("queries", "N x d", "the learned object queries"),
    (r"decoder\.\d+", "N x d", "output of a decoder layer, before the shared LayerNorm"),
    (r"decoder\.\d+\.self_attention", "M x N x N", "which queries each query looks at"),
    (
        r"decoder\.\d+\.cross_attention",
        "M x N x H/{s} x W/{s}",
        "where each query looks in the memory",
    ),
    ("hs", "N x d", "the box embeddings: the last decoder layer after the LayerNorm"),
    ("logits", "N x (C + 1)", "class logits, no-object last"),
    ("boxes", "N x 4", "(cx, cy, w, h), relative to the image"),
    ("scores", "N", "probability of the best class, no-object left aside"),
    ("classes", "N", "the best class"),
    ("kept", "N", "whether the query is an object and scores above the threshold"),
    ("mask_queries", "K", "the numbers of the queries that the mask head runs on"),
    ("maps", "K x M x H/{s} x W/{s}", "attention maps, softmax over heads and positions together"),
    (
        r"mask_head\.concatenation",
        "K x (d + M) x H/{s} x W/{s}",
        "projected Res5 and the query's maps, channel beside channel",
    ),
    (r"mask_head\.lay1", "K x (d + M) x H/{s} x W/{s}", "3x3 convolution, GroupNorm, ReLU"),
    (r"mask_head\.lay2", "K x d/2 x H/{s} x W/{s}", "3x3 convolution, GroupNorm, ReLU"),
    (r"mask_head\.up1", "K x d/2 x H/16 x W/16", "the step before, enlarged to Res4"),
    (r"mask_head\.adapter1", "d/2 x H/16 x W/16", "Res4 after a 1x1 convolution"),
    (r"mask_head\.sum1", "K x d/2 x H/16 x W/16", "both added"),
    (r"mask_head\.lay3", "K x d/4 x H/16 x W/16", "3x3 convolution, GroupNorm, ReLU"),
    (r"mask_head\.up2", "K x d/4 x H/8 x W/8", "the step before, enlarged to Res3"),
    (r"mask_head\.adapter2", "d/4 x H/8 x W/8", "Res3 after a 1x1 convolution"),
    (r"mask_head\.sum2", "K x d/4 x H/8 x W/8", "both added"),
    (r"mask_head\.lay4", "K x d/8 x H/8 x W/8", "3x3 convolution, GroupNorm, ReLU"),
    (r"mask_head\.up3", "K x d/8 x H/4 x W/4", "the step before, enlarged to Res2"),
    (r"mask_head\.adapter3", "d/8 x H/4 x W/4", "Res2 after a 1x1 convolution"),
    (r"mask_head\.sum3", "K x d/8 x H/4 x W/4", "both added"),
    (r"mask_head\.lay5", "K x d/16 x H/4 x W/4", "3x3 convolution, GroupNorm, ReLU"),
    (r"mask_head\.out_lay", "K x H/4 x W/4", "3x3 convolution to one channel: the mask logits"),
    ("mask_logits", "K x H/4 x W/4", "the mask logits as the model computed them"),
    ("full_mask_logits", "P x H x W", "mask logits of the kept queries, bilinear to the image"),
    ("panoptic_seg", "H' x W'", "the result: segment ids from 1, 0 = VOID"),
]


def describe(name: str, res5_stride: int) -> tuple[str, str]:
    """The shape in letters, and the meaning, of the tensor `name` of a trace."""
    for pattern, letters, meaning in _TENSORS:
        if re.fullmatch(pattern, name):
            return letters.format(s=res5_stride), meaning
    raise KeyError(name)
