"""A model as a function of tensors, from the picture to the panoptic map, that can be recorded."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.boxes import pixels_xyxy
from ..modeling.meta_arch import DETR, PanopticDETR
from ..modeling.postprocessing import classify, is_confident
from ..modeling.predictions import Predictions
from .geometry import Geometry, Resize
from .masks import at_least_one, masks_of
from .merging import merge
from .resizing import resize, size_of

DETECTIONS = ("boxes", "scores", "classes", "is_instance")
PANOPTIC = ("panoptic_seg", "segment_classes", "segment_scores", "segment_areas")


class TracingAdapter(nn.Module):
    """As Detectron2's of this name, with tensors where its models have dicts: pictures as they
    are go in, and what is found comes out at their size.

    All images of a batch have one size.
    """

    model: Any  # a `DETR`

    def __init__(
        self,
        model: nn.Module,
        resize: Resize,
        size: tuple[int, int] | None = None,
        max_masks: int | None = None,
    ):
        """
        Args:
            size: (height, width) of all pictures; None for any.
            max_masks: K, so many masks are computed whatever is kept, and of more kept queries
                those with the highest scores take part; None for as many as are kept.
        """
        super().__init__()
        check_exportable(model)
        self.model = model
        self.resize = resize
        self.max_masks = max_masks
        self.geometry = None
        if size is not None:
            self.geometry = Geometry.of(torch.tensor(size), resize, fixed=True)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what `forward` gives."""
        if not isinstance(self.model, PanopticDETR):
            return DETECTIONS
        return (*DETECTIONS, *PANOPTIC, *(["num_kept"] if self.max_masks else []))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            image: (B, 3, H, W), 0 to 255, uint8 or whole numbers as floats, the channels in the
                order of INPUT.FORMAT.

        Returns:
            boxes (B, N, 4), (x0, y0, x1, y1), pixels of the picture; scores (B, N); classes
            (B, N) int64; is_instance (B, N) bool, which of them `Predictor` gives as `instances`.
            Of a panoptic model also the fields of `Segments`: (B, H, W) int32, and (B, N) each;
            and with `max_masks` num_kept (B,) int64, queries that would have been given masks.
        """
        model = self.model
        geometry = self.geometry or Geometry.of(size_of(image), self.resize, fixed=False)
        image = image.int()
        if geometry.taps is not None:
            image = resize(image, *geometry.taps)
        image = (image.to(model.pixel_mean) - model.pixel_mean) / model.pixel_std
        sizes = geometry.network_sides.expand(image.shape[0], 2)
        predictions = model.predict_batch(image, sizes, None, all_layers=False)
        found = self._detections(predictions, geometry)
        if isinstance(model, PanopticDETR):
            found += self._panoptic(predictions, geometry)
        return found

    def _detections(self, predictions: Predictions, geometry: Geometry) -> tuple[Tensor, ...]:
        scores, classes = classify(predictions.logits[-1])
        sides = geometry.output_sides
        boxes = pixels_xyxy(predictions.boxes[-1], sides)
        boxes = boxes.clamp(min=0).minimum(torch.cat((sides, sides)))
        instance = torch.ones_like(scores, dtype=torch.bool)
        if isinstance(self.model, PanopticDETR):
            instance = self.model.is_thing[classes] & (scores > self.model.instance_score_threshold)
        return boxes, scores, classes, instance

    def _panoptic(self, predictions: Predictions, geometry: Geometry) -> tuple[Tensor, ...]:
        """One image after the other, since each has its own number of kept queries."""
        model, logits = self.model, predictions.logits[-1]
        scores, classes = classify(logits)
        kept = is_confident(logits, model.panoptic_score_threshold)
        images = []
        for b in range(len(logits)):
            rows = self._rows(kept[b], scores[b])
            images.append(
                merge(
                    masks_of(model, predictions.of_images(slice(b, b + 1)), rows),
                    classes[b, rows],
                    scores[b, rows],
                    kept[b, rows],
                    model.is_thing,
                    model.merging,
                    geometry,
                    int(logits.shape[1]),
                )
            )
        found: tuple[Tensor, ...] = tuple(torch.stack(field) for field in zip(*images))
        return (*found, kept.sum(1)) if self.max_masks else found

    def _rows(self, kept: Tensor, scores: Tensor) -> Tensor:
        """(N,) bool and (N,) -> (K,) int64, the queries that are given masks, in their order."""
        if self.max_masks is None:
            return at_least_one(kept)
        return scores.where(kept, -1.0).topk(min(self.max_masks, len(kept))).indices.sort().values


def check_exportable(model: nn.Module) -> None:
    """A `UserError` where a model cannot be exported."""
    if not isinstance(model, DETR):
        raise UserError(
            f"{type(model).__name__} cannot be exported: MODEL.META_ARCHITECTURE has to be DETR, "
            "PanopticDETR or a class of yours that inherits from them."
        )
    backbone = model.backbone
    if backbone.size_divisibility > 1 or backbone.padding_constraints.get("square_size", 0):
        raise UserError(
            f"MODEL.BACKBONE.NAME gives a {type(backbone).__name__}, which asks for padded "
            "pictures, and an exported model does not pad: choose a backbone that takes any size."
        )
