"""Whether the fast model gives what the reference gives: exactly, and where numbers are coarse."""

from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from detr_d2.acceleration import accelerate
from detr_d2.checkpoint import Checkpointer
from detr_d2.data import shapes
from detr_d2.engine import setup_cfg

from .agreement import differing_pixels, gradients_of
from .inputs import draw_mosaic, model_input
from .models import (
    AnyDETR,
    DecidedClasses,
    build_detr,
    decide_classes,
    detr_cfg,
    is_thing,
    reference_of,
)
from .settings import REDUCED, Settings
from .variants import Variant

SHAPES = Path("configs/Shapes-PanopticSegmentation")
TRAINED = "panoptic_detr_R_18_narrow_dc5"  # a configuration and its checkpoint
KEPT = 5  # queries that pass the score test
SIZES = ((97, 131), (90, 140))  # odd, and padded where they share a batch


def check_exactness(settings: Settings) -> dict[str, float]:
    """Compare in float64 on a reduced model, and in float32 on the trained model of the shapes.

    Returns:
        float64_logits, float64_masks, float64_losses, float64_gradients: largest difference of
            a class logit, a mask logit, a loss, an element of a gradient.
        float64_pixels: pixels in 10,000 of the panoptic map that differ.
        shapes_VARIANT: pixels in 10,000 that differ, over all images, of each fast variant.
    """
    result = check_float64(settings)
    if settings.device == "cpu":
        for variant in settings.variants:
            if variant.model == "fast" and not variant.compiled:
                result[f"shapes_{variant}"] = check_shapes(variant, settings.shapes)
    return result


def check_float64(settings: Settings) -> dict[str, float]:
    """The fast and the plain model in float64, on a processor: see `check_exactness`, float64_*."""
    cfg = detr_cfg(settings, *REDUCED, "MODEL.DEVICE", "cpu", "MODEL.DETR.DROPOUT", 0.0)
    models = [build_detr(Variant(name), cfg).double() for name in ("fast", "reference")]
    mosaics = [draw_mosaic(seed, size, 4, is_thing(cfg)) for seed, size in enumerate(SIZES)]
    inputs = [model_input(mosaic, (120, 160)) for mosaic in mosaics]

    losses, gradients, results = [], [], []
    for model in models:
        with EventStorage(0):
            of_model = model.train()(inputs)
        sum(of_model.values()).backward()
        losses.append(of_model)
        gradients.append(gradients_of(model))

        verdicts = decide_classes(model, cfg, KEPT)
        model.class_embed = DecidedClasses(model.class_embed, verdicts)
        # One by one, since the reference lets images of a batch see each other's padding.
        results.append([_infer(model.eval(), x) for x in inputs])
    pairs = list(zip(*results))
    return {
        "float64_logits": max(_apart(a["logits"], b["logits"]) for a, b in pairs),
        "float64_masks": max(_apart(a["masks"], b["masks"]) for a, b in pairs),
        "float64_pixels": max(
            differing_pixels(a["panoptic_seg"], b["panoptic_seg"]) for a, b in pairs
        ),
        "float64_losses": max(_apart(losses[0][n], losses[1][n]) for n in losses[1]),
        "float64_gradients": max(_apart(gradients[0][n], gradients[1][n]) for n in gradients[1]),
    }


@torch.no_grad()
def _infer(model: AnyDETR, x: dict) -> dict:
    """The result of one image, and on the way class and mask logits of the kept queries."""
    logits: list[Tensor] = []
    masks: list[Tensor] = []
    hooks = [
        model.class_embed.register_forward_hook(lambda *call: logits.append(call[-1])),
        model.mask_head.register_forward_hook(lambda *call: masks.append(call[-1])),
    ]
    result = model([x])[0]
    for hook in hooks:
        hook.remove()
    # The reference gives the logits of all layers, and the masks of all queries in a batch of 1.
    logits_of_last = logits[-1].flatten(0, -2)[-len(model.query_embed.weight) :]
    return {
        "panoptic_seg": result["panoptic_seg"],
        "logits": logits_of_last[:KEPT],
        "masks": torch.cat([m.flatten(0, -3) for m in masks])[:KEPT],
    }


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def check_shapes(variant: Variant, images: int) -> float:
    """Pixels in 10,000 of validation images that the trained model gives to another segment."""
    opts = [
        *("MODEL.DETR.PANOPTIC.MERGE", "official"),
        *("MODEL.DETR.PANOPTIC.OFFICIAL_STUFF_RULE", True),
        *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.85),
        *("MODEL.WEIGHTS", str(SHAPES / "checkpoint" / f"{TRAINED}.pth")),
    ]
    cfg = setup_cfg(str(SHAPES / f"{TRAINED}.yaml"), opts)
    fast = accelerate(build_model(cfg).eval())
    Checkpointer.from_config(cfg, fast).load(cfg.MODEL.WEIGHTS)
    reference = reference_of(fast, cfg).eval()
    differing = []
    for index in range(images):
        scene = shapes.draw_scene(np.random.default_rng((0, 1, index)))
        image = torch.from_numpy(scene.image).permute(2, 0, 1)
        with variant.computing("cpu"):
            result = panoptic_of(fast, image)
        differing.append(differing_pixels(result, panoptic_of(reference, image)))
    return float(np.mean(differing))


@torch.no_grad()
def panoptic_of(model: nn.Module, image: torch.Tensor) -> tuple:
    """What the model returns for one image (3, H, W): map (H, W), segments_info."""
    return model([{"image": image}])[0]["panoptic_seg"]
