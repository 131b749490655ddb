"""From the predictions of one image to its panoptic map, without the model."""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode

from detr_d2.modeling.merging import MergingRule
from detr_d2.modeling.postprocessing import classify, is_confident, panoptic_from_masks

from ..agreement import differing_pixels
from ..models import detr_cfg, is_thing
from ..reference.merging_by_scores import panoptic_by_scores
from ..reference.postprocessing import panoptic_of
from ..settings import Settings
from ..variants import Variant
from .work import Case, Work


class MergingKept(Work):
    """By the official rule. The masks are smooth, as those of a trained model."""

    name = "merging"
    what = "post-processing"

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.cfg = self.configure()
        self.num_queries = self.cfg.MODEL.DETR.NUM_OBJECT_QUERIES

    @property
    def kept(self) -> int:
        return self.settings.kept

    @property
    def title(self) -> str:
        height, width = self.settings.image_size
        return f"{self.what}, {height}x{width}, {self.kept} of {self.num_queries} queries kept"

    def configure(self) -> CfgNode:
        return detr_cfg(self.settings)

    def prepare(self, variant: Variant) -> Case:
        detr, size, device = self.cfg.MODEL.DETR, self.settings.image_size, self.settings.device
        things = is_thing(self.cfg)
        logits, masks = self.draw(detr.NUM_CLASSES)
        rule, thing_tensor = MergingRule.from_config(self.cfg), torch.tensor(things, device=device)

        def fast():
            scores, classes = classify(logits)
            kept = is_confident(logits, detr.PANOPTIC.SCORE_THRESHOLD)
            upsampled = rule.upsampled(masks[kept], size, size, size)
            return panoptic_from_masks(upsampled, classes[kept], scores[kept], thing_tensor, rule)

        def reference():
            return self.reference(logits, masks, things, detr, size)

        run = torch.no_grad()(reference if variant.model == "reference" else fast)
        return Case(run, run)

    def reference(self, logits, masks, things, detr, size) -> tuple:
        return panoptic_of(logits, masks, things, detr, size, size)

    def draw(self, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C + 1) logits, (N, H/4, W/4) mask logits."""
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(num_classes, (self.num_queries,), generator=generator)
        labels[self.kept :] = num_classes
        height, width = self.settings.image_size
        masks = torch.randn(self.num_queries, 1, 4, 5, generator=generator) * 5
        masks = F.interpolate(masks, (height // 4, width // 4), mode="bicubic")[:, 0]
        # Scores of 0.89 to 1 among 133 classes.
        sure = torch.empty(self.num_queries, 1).uniform_(7, 20, generator=generator)
        logits = sure * F.one_hot(labels, num_classes + 1)
        return logits.to(self.settings.device), masks.to(self.settings.device)

    def compare(self, result, reference) -> dict[str, float]:
        return {"pixels_per_10000": differing_pixels(result, reference)}


class MergingAll(MergingKept):
    """Every query passes the score test, as in the official code with a threshold of 0."""

    name = "merging-all"

    @property
    def kept(self) -> int:
        return self.num_queries


class MergingByScores(MergingKept):
    """By the rule "scores". The masks are nearly a partition, as those of a trained model: of the
    others this rule would leave none.
    """

    name = "merging-scores"
    what = "post-processing by scores"

    def configure(self) -> CfgNode:
        return detr_cfg(
            self.settings,
            *("MODEL.DETR.PANOPTIC.MERGE", "scores"),
            *("MODEL.DETR.PANOPTIC.OFFICIAL_STUFF_RULE", False),
            *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.5),
        )

    def draw(self, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        logits, masks = super().draw(num_classes)
        masks[: self.kept] = masks[: self.kept].softmax(0).logit(eps=1e-6)
        return logits, masks

    def reference(self, logits, masks, things, detr, size) -> tuple:
        return panoptic_by_scores(logits, masks, things, detr, size)


class MergingAllByScores(MergingByScores):
    """Every query is kept, by the rule "scores"."""

    name = "merging-all-scores"

    @property
    def kept(self) -> int:
        return self.num_queries
