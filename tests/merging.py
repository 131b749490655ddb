"""Merging of masks that have the size of the image already, for tests."""

from torch import Tensor

from detr_d2.modeling.merging import MergingRule
from detr_d2.modeling.postprocessing import panoptic_from_masks
from detr_d2.modeling.upsampling import UpsampledMasks


def masks_of(
    logits: Tensor, output_size: tuple[int, int], rule: MergingRule | None = None
) -> UpsampledMasks:
    """Of (K, H, W) logits."""
    size = tuple(logits.shape[1:])
    return (rule or MergingRule()).upsampled(logits, size, size, output_size)


def merge(logits: Tensor, classes, scores, is_thing, output_size: tuple[int, int], area, **rule):
    """`panoptic_from_masks` of (K, H, W) logits; `area` is that of small segments."""
    rule = MergingRule(small_segment_area=area, **rule)
    masks = masks_of(logits, output_size, rule)
    return panoptic_from_masks(masks, classes, scores, is_thing, rule)
