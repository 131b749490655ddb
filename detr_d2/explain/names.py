"""What the tensors of a trace are called, their shapes in the paper's letters, and what they are.

H x W is the image as the model gets it, pixels; halves are rounded up at each level. d channels,
M heads, N queries, C classes, K queries that the mask head runs on, P that take part in the
panoptic map, T segments of the ground truth. H' x W' is the original image.

Where a model has a pyramid, proposals or windows: p channels of the pyramid, A cells of all of its
levels, S queries that stand for a stuff class each, Q things of the K with a window, R x R points
of a window.
"""

import re

# {s} is the stride of Res5: 32, or 16 with DC5. {m} is that of the masks: "/4", "/2" or nothing.
# {c}: logits of the semantic map along a side of a cell, nothing, "2*" or "4*".
# Numbers of layers start at 0.
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
    ("pyramid.res4", "p x H/16 x W/16", "the pyramid's level of Res4"),
    ("pyramid.res3", "p x H/8 x W/8", "the pyramid's level of Res3"),
    ("pyramid.res2", "p x H/4 x W/4", "the pyramid's level of Res2"),
    ("cells.features", "A x p", "the cells of all levels, in the dense head, the coarsest first"),
    ("cells.logits", "A x (C - S)", "logits of the thing classes, each for itself (sigmoid)"),
    ("cells.boxes", "A x 4", "(x0, y0, x1, y1), pixels: the box that each cell says"),
    ("proposals", "N - S", "the cells that are the queries of things, numbers of rows"),
    ("stuff_queries", "S x d", "the learned positions of the queries of stuff"),
    ("content", "N x d", "what the queries begin with: nothing, or the features of their cell"),
    ("queries", "N x d", "the learned object queries"),
    (
        r"decoder\.\d+\.references",
        "(N - S) x 4",
        "(cx, cy, w, h): the box in which a decoder layer looks at the pyramid",
    ),
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
    ("semantic", "C x {c}H/4 x {c}W/4", "the semantic map: logits over the classes of each cell"),
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
    (
        "start_logits",
        "K x {c}H/4 x {c}W/4",
        "log-odds of the query's class in the semantic map, times a learned gain",
    ),
    ("coarse_logits", "K x {c}H/4 x {c}W/4", "both added: mask logits without windows"),
    ("window_queries", "Q", "the numbers of the queries that have a window"),
    ("windows", "Q x 4", "(x0, y0, x1, y1), pixels: the windows of things"),
    ("window_logits", "Q x 2*R x 2*R", "the corrections, added to the mask in the window"),
    ("mask_logits", "K x H{m} x W{m}", "the mask logits as the model computed them"),
    ("full_mask_logits", "P x H x W", "mask logits of the kept queries, bilinear to the image"),
    ("panoptic_seg", "H' x W'", "the result: segment ids from 1, 0 = VOID"),
]


def describe(
    name: str, res5_stride: int, mask_stride: int = 4, semantic_stride: int = 4
) -> tuple[str, str]:
    """The shape in letters, and the meaning, of the tensor `name` of a trace."""
    of_masks = f"/{mask_stride}" if mask_stride > 1 else ""
    of_cells = f"{4 // semantic_stride}*" if semantic_stride < 4 else ""
    for pattern, letters, meaning in _TENSORS:
        if re.fullmatch(pattern, name):
            return letters.format(s=res5_stride, m=of_masks, c=of_cells), meaning
    raise KeyError(name)
