"""The models that are measured, with random weights that all DETR variants share."""

from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor, nn

from detr_d2.acceleration import accelerate
from detr_d2.classes import panoptic_classes
from detr_d2.engine import setup_cfg

from .reference import ReferencePanopticDETR
from .settings import Settings
from .variants import Variant

AnyDETR = Any  # a DETR of this package or its reference: an `nn.Module` with parts of one name


def detr_cfg(settings: Settings, *overrides) -> CfgNode:
    """The configuration of both DETRs.

    Masks are merged in the official way: the reference does it so, and maps are to be compared.
    """
    return setup_cfg(
        settings.config_file,
        [
            *settings.overrides,
            *("MODEL.DEVICE", settings.device, "MODEL.WEIGHTS", ""),
            *("MODEL.DETR.PANOPTIC.MERGE", "official"),
            *("MODEL.DETR.PANOPTIC.OFFICIAL_STUFF_RULE", True),
            *("MODEL.DETR.INSTANCES.MASKS_ON", False),
            *overrides,
        ],
    )


def build_detr(variant: Variant, cfg: CfgNode) -> AnyDETR:
    """`cfg`'s meta-architecture or its reference, the same weights in each."""
    torch.manual_seed(0)
    model = build_model(cfg)
    draw_norms(model)
    if cfg.MODEL.META_ARCHITECTURE == "PanopticDETR":
        sharpen_masks(model)
    if variant.model == "reference":
        model = reference_of(model, cfg)
    elif not variant.compiled:
        accelerate(model)
    return compiled(model) if variant.compiled else model


def reference_of(model: AnyDETR, cfg: CfgNode) -> ReferencePanopticDETR:
    """The reference with the weights of `model`; what is frozen there is frozen in it."""
    with_masks = cfg.MODEL.META_ARCHITECTURE == "PanopticDETR"
    reference = ReferencePanopticDETR(cfg, is_thing(cfg), with_masks)
    reference.load_state_dict(model.state_dict())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in reference.named_parameters():
        parameter.requires_grad_(name in trained)
    return reference.to(model.device)


def build_panoptic_fpn(variant: Variant, settings: Settings) -> tuple[nn.Module, CfgNode]:
    """Detectron2's Panoptic FPN on the backbone of the DETR that is measured.

    Random weights score too low for any detection: the threshold falls, and as many are kept as
    queries of DETR. A trained model keeps more of them, so this flatters Panoptic FPN.
    """
    detr = detr_cfg(settings)
    cfg = get_cfg()
    cfg.merge_from_file(
        model_zoo.get_config_file("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml")
    )
    resnets, things = detr.MODEL.RESNETS, sum(is_thing(detr))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", settings.device, "MODEL.WEIGHTS", ""),
            *("MODEL.RESNETS.DEPTH", resnets.DEPTH),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", resnets.STEM_OUT_CHANNELS),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", resnets.WIDTH_PER_GROUP),
            # Of R18 and R34, Detectron2 has one width alone.
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64 if resnets.DEPTH < 50 else 256),
            *("MODEL.RESNETS.STRIDE_IN_1X1", False),
            *("MODEL.ROI_HEADS.NUM_CLASSES", things),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", detr.MODEL.DETR.NUM_CLASSES - things + 1),
            *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
            *("TEST.DETECTIONS_PER_IMAGE", settings.kept),
            # From random weights, its usual rate of 0.02 ends in NaN after a few steps.
            *("SOLVER.BASE_LR", 1e-6),
            *settings.fpn_overrides,
        ]
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    draw_norms(model)
    return (compiled(model) if variant.compiled else model), cfg


def is_thing(cfg: CfgNode) -> list[bool]:
    """Of each class of the configuration's first dataset."""
    things = set(panoptic_classes(cfg).things)
    return [label in things for label in range(cfg.MODEL.DETR.NUM_CLASSES)]


@torch.no_grad()
def draw_norms(model: nn.Module) -> None:
    """Give the frozen batch norms of the backbone numbers as training leaves them.

    Untouched they are the identity, which hides mistakes, and each of sixteen residual sums then
    doubles the features; the last norm of a block is small here, as in trained networks.
    """
    buffers = {name: b for name, b in model.named_buffers() if ".norm." in name}
    last = "conv3" if any(".conv3.norm." in name for name in buffers) else "conv2"
    for name, buffer in buffers.items():
        if name.endswith(("bias", "running_mean")):
            buffer.uniform_(-0.1, 0.1)
        else:
            buffer.uniform_(0.5, 1.5)
        if name.endswith(f"{last}.norm.weight"):
            buffer.mul_(0.25)


@torch.no_grad()
def sharpen_masks(model: AnyDETR) -> None:
    """Make the masks of random weights differ between queries, as training does.

    The attention maps sum to 1, so that of random weights they say next to nothing beside the
    image: all queries would have one mask, and rounding would decide each pixel.
    """
    d_model = model.query_embed.embedding_dim
    model.bbox_attention.q_linear.weight.mul_(4)
    model.mask_head.lay1.weight[:, d_model:].mul_(300)


def compiled(model: AnyDETR) -> AnyDETR:
    """The model, in place, with backbone, transformer and mask head through `torch.compile`."""
    for name in ("backbone", "transformer", "mask_head"):
        if hasattr(model, name):
            getattr(model, name).compile()
    return model


def decide_classes(model: AnyDETR, cfg: CfgNode, kept: int) -> Tensor:
    """(N,) int64: the first `kept` queries get a class each, the others no-object.

    Classes are things and stuff by turns, as far as queries are free to say both. Where classes
    have queries of their own, half of the kept are of these, and the others are things.
    """
    no_object, proposed = cfg.MODEL.DETR.NUM_CLASSES, cfg.MODEL.DETR.NUM_OBJECT_QUERIES
    fixed = list(getattr(model.transformer, "fixed_classes", ()))
    if not fixed:
        verdicts = torch.full((proposed,), no_object)
        verdicts[:kept] = torch.arange(kept) * no_object // max(kept, 1)
        return verdicts
    verdicts = torch.full((len(fixed) + proposed,), no_object)
    of_stuff = min(kept // 2, len(fixed))
    verdicts[:of_stuff] = torch.tensor(fixed[:of_stuff])
    things = torch.tensor(is_thing(cfg)).nonzero()[:, 0]
    of_things = torch.arange(kept - of_stuff)
    verdicts[len(fixed) + of_things] = things[of_things % len(things)]
    return verdicts


class DecidedClasses(nn.Linear):
    """A class layer with the outcome decided: random weights keep no query, or all of them.

    What is added to the logits leaves no doubt. The work of the layer is done all the same.
    """

    offsets: Tensor

    def __init__(self, linear: nn.Linear, verdicts: Tensor):
        """
        Args:
            verdicts: (N,) int64, the class of each query, C for no-object.
        """
        super().__init__(linear.in_features, linear.out_features)
        self.load_state_dict(linear.state_dict())
        offsets = 50.0 * nn.functional.one_hot(verdicts, linear.out_features)
        self.register_buffer("offsets", offsets, persistent=False)
        self.to(linear.weight)

    def forward(self, hs: Tensor) -> Tensor:
        """(..., N, d) -> (..., N, C + 1)."""
        return super().forward(hs) + self.offsets
