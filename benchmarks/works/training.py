"""Training steps: losses, gradients, and the optimiser's step."""

import contextlib

import torch
from detectron2.solver import build_optimizer as build_sgd
from detectron2.utils.events import EventStorage
from torch import nn

from detr_d2.engine.optimizer import build_optimizer

from ..agreement import gradients_apart, gradients_of
from ..inputs import draw_mosaic, model_input, panoptic_fpn_input
from ..models import build_detr, build_panoptic_fpn, detr_cfg, is_thing
from ..variants import Variant
from .work import Case, Work, phases_of


class JointTraining(Work):
    """Boxes and masks together, of one image."""

    name = "joint-training"
    what = "joint training step"
    freeze_detr = False
    is_training = True

    @property
    def title(self) -> str:
        height, width = self.settings.input_size
        return f"{self.what}, {height}x{width}, {self.settings.segments} segments"

    def takes_part(self, variant: Variant) -> bool:
        return True

    def prepare(self, variant: Variant) -> Case:
        settings = self.settings
        cfg = detr_cfg(settings, "MODEL.DETR.FREEZE_DETR", self.freeze_detr, *variant.overrides)
        things = is_thing(cfg)
        mosaic = draw_mosaic(0, settings.input_size, settings.segments, things)
        inputs = [model_input(mosaic, settings.image_size)]
        if variant.model == "panoptic-fpn":
            model, cfg = build_panoptic_fpn(variant, settings)
            inputs = [panoptic_fpn_input(x, things) for x in inputs]
            optimizer = build_sgd(cfg, model)
        else:
            model = build_detr(variant, cfg)
            optimizer = build_optimizer(cfg, model)
        model.train()
        scaler = torch.amp.GradScaler(settings.device, enabled=variant.precision == "fp16")

        def backward() -> dict[str, float]:
            with EventStorage(0), variant.computing(settings.device):
                losses = model(inputs)
            scaler.scale(sum(losses.values())).backward()
            return {name: float(loss.detach()) for name, loss in losses.items()}

        def step() -> None:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

        def run() -> None:
            backward()
            step()

        def examine() -> tuple:
            with without_dropout(model):
                losses = backward()
            scaler.unscale_(optimizer)
            gradients = gradients_of(model)
            step()
            return losses, gradients

        return Case(run, examine, model, phases_of(model, variant))

    def compare(self, result, reference) -> dict[str, float]:
        (losses, gradients), (losses_of_reference, gradients_of_reference) = result, reference
        total = sum(losses_of_reference.values())
        return {
            "loss": abs(sum(losses.values()) - total) / total,
            "gradients": gradients_apart(gradients, gradients_of_reference),
        }


class MaskTraining(JointTraining):
    """The second step of the paper's recipe: DETR is frozen, the mask branch trains."""

    name = "mask-training"
    what = "mask-head training step"
    freeze_detr = True

    def takes_part(self, variant: Variant) -> bool:
        return variant.model != "panoptic-fpn"


@contextlib.contextmanager
def without_dropout(model: nn.Module):
    """Within it nothing is dropped, so that two models can be compared."""
    attributes = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in ("p", "dropout")
        if isinstance(getattr(module, name, None), float)
    ]
    for module, name, _ in attributes:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in attributes:
            setattr(module, name, value)
