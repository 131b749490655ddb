"""From images to results, as `Predictor` runs a model."""

import torch

from ..agreement import differing_pixels, instances_apart
from ..inputs import draw_mosaic, model_input, panoptic_fpn_input
from ..models import (
    AnyDETR,
    DecidedClasses,
    build_detr,
    build_panoptic_fpn,
    decide_classes,
    detr_cfg,
    is_thing,
)
from ..settings import Settings
from ..variants import Variant
from .work import Case, Work, phases_of


class PanopticInference(Work):
    """Image in, `panoptic_seg` and boxes out; exactly `settings.kept` queries are kept."""

    name = "panoptic-inference"
    meta_architecture = "PanopticDETR"
    what = "panoptic inference"
    overrides: tuple = ()
    has_batches = True
    has_peak = True

    def __init__(self, settings: Settings, batch_size: int = 1):
        super().__init__(settings)
        self.batch_size = batch_size

    @property
    def title(self) -> str:
        height, width = self.settings.input_size
        return f"{self.what}, {height}x{width}, batch of {self.batch_size}"

    def takes_part(self, variant: Variant) -> bool:
        return True

    def prepare(self, variant: Variant) -> Case:
        settings = self.settings
        kind = ("MODEL.META_ARCHITECTURE", self.meta_architecture)
        cfg = detr_cfg(settings, *kind, *self.overrides, *variant.overrides)
        things = is_thing(cfg)
        inputs = []
        for seed in range(self.batch_size):
            mosaic = draw_mosaic(seed, settings.input_size, settings.segments, things)
            inputs.append(model_input(mosaic, settings.image_size))
        if variant.model == "panoptic-fpn":
            model: AnyDETR = build_panoptic_fpn(variant, settings)[0]
            inputs = [panoptic_fpn_input(x, things) for x in inputs]
        else:
            model = build_detr(variant, cfg)
            verdicts = decide_classes(model, cfg, settings.kept)
            model.class_embed = DecidedClasses(model.class_embed, verdicts)
        model.eval().requires_grad_(False)  # what could be trained, the counter follows
        small = [{**inputs[0], "image": inputs[0]["image"][:, :64, :64]}]

        @torch.no_grad()
        def run(images=inputs):
            with variant.computing(settings.device):
                return model(images)

        return Case(run, run, model, phases_of(model, variant), lambda: run(small))

    def compare(self, result, reference) -> dict[str, float]:
        boxes = [instances_apart(a["instances"], b["instances"]) for a, b in zip(result, reference)]
        apart = {"box_pixels": max(boxes)}
        if "panoptic_seg" in reference[0]:
            pixels = [
                differing_pixels(a["panoptic_seg"], b["panoptic_seg"])
                for a, b in zip(result, reference)
            ]
            apart["pixels_per_10000"] = max(pixels)
        return apart


class MaskInference(PanopticInference):
    """The same with a mask for each thing query, as AP of masks wants them; nothing to compare."""

    name = "mask-inference"
    what = "panoptic inference and masks of instances"
    overrides = ("MODEL.DETR.INSTANCES.MASKS_ON", True)

    def takes_part(self, variant: Variant) -> bool:
        return variant.model not in ("reference", "panoptic-fpn")


class BoxInference(PanopticInference):
    """Images to boxes, by a DETR without masks."""

    name = "box-inference"
    meta_architecture = "DETR"
    what = "boxes alone"

    def takes_part(self, variant: Variant) -> bool:
        return variant.model != "panoptic-fpn"
