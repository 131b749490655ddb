"""From the predictions of one image to its panoptic map, without the model."""

import torch
import torch.nn.functional as F

from ...modeling.postprocessing import classify, is_confident, panoptic_from_masks
from ...modeling.upsampling import UpsampledMasks
from ..agreement import differing_pixels
from ..models import detr_cfg, is_thing
from ..reference.postprocessing import panoptic_of
from ..settings import Settings
from ..variants import Variant
from .work import Case, Work


class MergingKept(Work):
    """The masks are smooth, as those of a trained model."""

    name = "merging"

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.cfg = detr_cfg(settings)
        self.num_queries = self.cfg.MODEL.DETR.NUM_OBJECT_QUERIES

    @property
    def kept(self) -> int:
        return self.settings.kept

    @property
    def title(self) -> str:
        height, width = self.settings.image_size
        return f"post-processing, {height}x{width}, {self.kept} of {self.num_queries} queries kept"

    def prepare(self, variant: Variant) -> Case:
        detr, size, device = self.cfg.MODEL.DETR, self.settings.image_size, self.settings.device
        things = is_thing(self.cfg)
        logits, masks = self.draw(detr.NUM_CLASSES)

        def reference():
            return panoptic_of(logits, masks, things, detr, size, size)

        thing_tensor = torch.tensor(things, device=device)

        def fast():
            scores, classes = classify(logits)
            kept = is_confident(logits, detr.PANOPTIC.SCORE_THRESHOLD)
            return panoptic_from_masks(
                UpsampledMasks(masks[kept], size, size, size),
                classes[kept],
                scores[kept],
                thing_tensor,
                detr.PANOPTIC.SMALL_SEGMENT_AREA,
                official_stuff_rule=True,
            )

        run = torch.no_grad()(reference if variant.model == "reference" else fast)
        return Case(run, run)

    def draw(self, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C + 1) logits, (N, H/4, W/4) mask logits."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(num_classes, (self.num_queries,), generator=generator)
        labels[self.kept :] = num_classes
        height, width = self.settings.image_size
        masks = torch.randn(self.num_queries, 1, 4, 5, generator=generator) * 5
        masks = F.interpolate(masks, (height // 4, width // 4), mode="bicubic")[:, 0]
        logits = 20.0 * F.one_hot(labels, num_classes + 1)
        return logits.to(self.settings.device), masks.to(self.settings.device)

    def compare(self, result, reference) -> dict[str, float]:
        return {"pixels_per_10000": differing_pixels(result, reference)}


class MergingAll(MergingKept):
    """Every query passes the score test, as in the official code with a threshold of 0."""

    name = "merging-all"

    @property
    def kept(self) -> int:
        return self.num_queries
