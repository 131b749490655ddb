"""Small backbones of all kinds, as overrides of the configuration, for tests."""

from importlib.util import find_spec

import pytest

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="there is no timm here")
PROPOSALS = ("MODEL.DETR.TRANSFORMER", "ProposalTransformer")
PROPOSALS += ("MODEL.DETR.MASK_HEAD", "RefinedMaskHead")
SWIN = (
    *("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", 16),
    *("MODEL.SWIN.DEPTHS", [1, 2, 1, 1], "MODEL.SWIN.NUM_HEADS", [1, 1, 2, 2]),
    *("MODEL.SWIN.WINDOW_SIZE", 3, "MODEL.SWIN.DROP_PATH_RATE", 0.0),
)
VIT = (
    *("MODEL.BACKBONE.NAME", "build_vit_pyramid_backbone", "MODEL.VIT.EMBED_DIM", 32),
    *("MODEL.VIT.DEPTH", 3, "MODEL.VIT.NUM_HEADS", 2, "MODEL.VIT.WINDOW_SIZE", 3),
    *("MODEL.VIT.GLOBAL_BLOCKS", [2], "MODEL.VIT.IMG_SIZE", 128, "MODEL.VIT.OUT_CHANNELS", 32),
    *("MODEL.VIT.DROP_PATH_RATE", 0.0),
)
RESNEXT = ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.NUM_GROUPS", 4)
RESNEXT += ("MODEL.RESNETS.WIDTH_PER_GROUP", 2, "MODEL.RESNETS.STRIDE_IN_1X1", False)
DETECTRON2S = ("MODEL.BACKBONE.NAME", "build_resnet_backbone")


def timm_model(name: str, *arguments) -> tuple:
    own = ("MODEL.TIMM.NAME", name, "MODEL.TIMM.ARGUMENTS", list(arguments))
    return "MODEL.BACKBONE.NAME", "build_timm_backbone", *own


TIMM_SWIN = timm_model(
    "swin_tiny_patch4_window7_224",
    *(["embed_dim", 16], ["depths", [1, 1, 1, 1]], ["num_heads", [1, 1, 2, 2]]),
    *(["img_size", 128], ["window_size", 4]),
)
BACKBONES = {
    "ResNeXt": RESNEXT,
    "Detectron2's ResNeXt": (*RESNEXT, *DETECTRON2S),
    "Swin": SWIN,
    "ViT": (*VIT, "MODEL.VIT.SQUARE", False),
    "ViT, square": VIT,
    "timm ResNet": timm_model("test_resnet"),
    "timm ConvNeXt": timm_model("test_convnext"),
    "timm Swin of one size": TIMM_SWIN,
}
# What DETR without masks reads.
COARSEST = {
    "Swin": ("MODEL.SWIN.OUT_FEATURES", ["p3"]),
    "ViT": ("MODEL.VIT.OUT_FEATURES", ["p5"]),
    "ViT, square": ("MODEL.VIT.OUT_FEATURES", ["p5"]),
}
STEPS = [-(-n // 32) * 32 for n in (75, 97)]  # of the batch below, at a stride of 32
SIZES = {"ViT, square": [128, 128], "timm Swin of one size": [128, 128]}
SIZES |= {"ResNeXt": [75, 97], "Detectron2's ResNeXt": [75, 97]}


def marked(name: str):
    needs = name.startswith(("timm", "ViT"))
    return pytest.param(name, marks=needs_timm) if needs else name


EACH = pytest.mark.parametrize("name", [marked(name) for name in BACKBONES])
