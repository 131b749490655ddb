"""DETR: an image goes in, N boxes with classes come out. [DETR 3]"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ...classes import count_classes
from ...errors import UserError
from ...model_kind import ModelKind
from ..backbone import (
    check_image_size,
    level_shapes,
    levels_of,
    padding_mask_of,
    resize_padding_mask,
)
from ..boxes import relative_cxcywh
from ..computing import at_least_float32, infer_by_size
from ..criterion import SetCriterion
from ..matcher import Matches, Targets
from ..postprocessing import classify, instances_from_queries
from ..predictions import Predictions
from ..registries import CRITERION_REGISTRY, POSITION_ENCODING_REGISTRY, TRANSFORMER_REGISTRY
from ..transformer import Context, Decoded

CRITERION_REGISTRY.register(SetCriterion)


@META_ARCH_REGISTRY.register()
class DETR(ModelKind, nn.Module):
    """Object detection with transformers; boxes and classes, no masks."""

    transformer: Any  # with the methods of `Transformer`
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        position_encoding: nn.Module,
        transformer: nn.Module,
        criterion: SetCriterion,
        num_classes: int,
        num_queries: int,
        d_model: int,
        deep_supervision: bool,
        pixel_mean: list[float],
        pixel_std: list[float],
        input_format: str,
        in_features: Sequence[str] = (),
    ):
        """
        Args:
            num_classes: C, no-object not counted.
            num_queries: N.
            d_model: d.
            deep_supervision: train every decoder layer (auxiliary losses).
            pixel_mean, pixel_std: of the channels, in the order of `input_format`, 0..255.
            input_format: "RGB" or "BGR", for the visualisation of inputs.
            in_features: the backbone's levels, the coarsest last; see `levels_of`.
        """
        super().__init__()
        self.backbone = backbone
        self.levels = levels_of(in_features, backbone.output_shape())
        self.level_shapes = level_shapes(in_features, backbone)
        self.position_encoding = position_encoding
        self.transformer = transformer
        self.criterion = criterion
        self.deep_supervision = deep_supervision
        self.input_format = input_format

        self.input_proj = nn.Conv2d(self.level_shapes["res5"].channels, d_model, 1)
        self.query_embed = nn.Embedding(num_queries, d_model)
        self.class_embed = nn.Linear(d_model, num_classes + 1)
        self.bbox_embed = MLP(d_model, d_model, 4, num_layers=3)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg):
        """All parts, by MODEL.DETR, from their registries."""
        detr = cfg.MODEL.DETR
        backbone = build_backbone(cfg)
        shapes = level_shapes(detr.IN_FEATURES, backbone)
        transformer = TRANSFORMER_REGISTRY.build(detr.TRANSFORMER, cfg, shapes)
        criterion = CRITERION_REGISTRY.get(detr.CRITERION)
        criterion = criterion(**criterion.arguments_from(detr, transformer.fixed_classes))
        return {
            "backbone": backbone,
            "position_encoding": POSITION_ENCODING_REGISTRY.build(detr.POSITION_ENCODING, cfg),
            "transformer": transformer,
            "criterion": CRITERION_REGISTRY.checked(detr.CRITERION, criterion),
            "num_classes": detr.NUM_CLASSES,
            "num_queries": transformer.num_learned,
            "d_model": detr.HIDDEN_DIM,
            "deep_supervision": detr.DEEP_SUPERVISION,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "in_features": detr.IN_FEATURES,
        }

    @classmethod
    def check_classes(cls, cfg, dataset_name: str) -> None:
        """See `ModelKind.check_classes`."""
        count = count_classes(dataset_name, panoptic=cls.gives_panoptic)
        if count is not None and count != cfg.MODEL.DETR.NUM_CLASSES:
            raise UserError(
                f"Dataset {dataset_name} has {count} classes, but MODEL.DETR.NUM_CLASSES is "
                f"{cfg.MODEL.DETR.NUM_CLASSES}: set MODEL.DETR.NUM_CLASSES {count}."
            )

    @classmethod
    def queries_of(cls, cfg) -> tuple[int, tuple[int, ...]]:
        """See `ModelKind.queries_of`."""
        detr = cfg.MODEL.DETR
        fixed = TRANSFORMER_REGISTRY.get(detr.TRANSFORMER).fixed_classes_of(cfg)
        return detr.NUM_OBJECT_QUERIES, tuple(fixed)

    @property
    def device(self) -> torch.device:
        """That the model is on, and inputs are moved to."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: of each image

                * image: (3, height, width), 0..255.
                * instances (training): `gt_boxes`, `gt_classes`, perhaps `gt_weights` (`Targets`).
                * height, width (inference, optional): size of the original image; by default
                  that of `image`.

        Returns:
            In training the weighted losses by name. Otherwise, of each image, a dict with
            "instances": Instances with `pred_boxes`, `scores`, `pred_classes`, one a query.
        """
        if self.training:
            return self.losses(batched_inputs)
        return self.inference(batched_inputs)

    def preprocess(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the images and pad them, with zeros, at the right and the bottom.

        To one size, and to what the backbone asks for.

        Channels are last in memory, from here to the mask head: what follows keeps the format of
        what it is given, and that is the one that convolutions are fastest in (docs/speed.md).
        """
        images = [x["image"].to(self.device, non_blocking=True) for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        for image in images:
            check_image_size(self.backbone, tuple(image.shape[-2:]))
        images = ImageList.from_tensors(
            images,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )
        images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
        return images

    def predict(
        self,
        images: ImageList,
        all_layers: bool,
        targets: list[Targets] | None = None,
        given: Tensor | None = None,
    ) -> Predictions:
        """Backbone, projection, transformer, and what is predicted; see `predict_batch`."""
        # Before the backbone, so that a GPU has work while this is copied to it.
        sizes = self.pixel_mean.new_tensor([(w, h) for h, w in images.image_sizes])
        mask = padding_mask_of(images.image_sizes, images.tensor.shape[-2:], self.device)
        return self.predict_batch(images.tensor, sizes, mask, all_layers, targets, given)

    def predict_batch(
        self,
        images: Tensor,
        sizes: Tensor,
        padding_mask: Tensor | None,
        all_layers: bool,
        targets: list[Targets] | None = None,
        given: Tensor | None = None,
    ) -> Predictions:
        """
        Args:
            images: (B, 3, H, W), normalised and padded.
            sizes: (B, 2), width and height of the images without padding, pixels.
            padding_mask: (B, H, W) bool, True at padding; None where there is none.
            all_layers: see `Transformer.forward`.
            targets, given: see `Context`.
        """
        features = self.backbone(images)
        features = {name: features[own] for name, own in self.levels.items()}
        res5 = features["res5"]
        mask = resize_padding_mask(padding_mask, res5.shape[-2:])
        everywhere = torch.zeros(1, *res5.shape[-2:], dtype=torch.bool, device=self.device)
        positions = self.position_encoding(
            everywhere if mask is None else mask, self.query_embed.weight.dtype
        )
        projected = self.input_proj(res5)
        context = Context(images, features, sizes, self.bbox_embed, targets, given)
        decoded = self.transformer(
            projected, mask, self.query_embed.weight, positions, all_layers, context
        )
        logits, boxes = self.read_heads(decoded)
        H, W = images.shape[-2:]
        return Predictions(features, mask, projected, decoded, logits, boxes, context, (H, W))

    def read_heads(self, decoded: Decoded) -> tuple[Tensor, Tensor]:
        """`hs` (L, B, N, d) -> logits (L, B, N, C + 1), relative (cx, cy, w, h) (L, B, N, 4).

        Matching, losses and scores are computed from them, so mixed precision ends here: in
        bfloat16 a coordinate would have two or three digits. These layers are small.
        """
        hs = decoded.hs
        with torch.autocast(hs.device.type, enabled=False):
            hs = hs.to(self.query_embed.weight.dtype)
            logits, deltas = self.class_embed(hs), self.bbox_embed(hs)
        return self.transformer.read(at_least_float32(logits), at_least_float32(deltas), decoded)

    def losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Weighted losses by name; see `forward`."""
        images, targets = self.preprocess(batched_inputs), self.targets(batched_inputs)
        predictions = self.predict(images, self.deep_supervision, targets)
        return self.set_losses(predictions, targets, self.match(predictions, targets))

    def set_losses(
        self, predictions: Predictions, targets: list[Targets], matches: Matches
    ) -> dict[str, Tensor]:
        """Of classes and boxes, and of what the transformer has beside."""
        decoded, logits, boxes = predictions.decoded, predictions.logits, predictions.boxes
        losses = self.criterion.set_losses(
            decoded.own(logits), decoded.own(boxes), targets, matches
        )
        losses.update(
            self.transformer.losses(logits, boxes, decoded, predictions.context, self.criterion)
        )
        return losses

    def match(self, predictions: Predictions, targets: list[Targets]) -> Matches:
        """Match, and send what is not optimised to the event storage: never into the total."""
        logits, boxes = map(predictions.decoded.own, (predictions.logits, predictions.boxes))
        matches = self.criterion.matcher(logits, boxes, targets)
        diagnostics = self.criterion.diagnostics(logits[-1], targets, matches)
        get_event_storage().put_scalars(**diagnostics)
        return matches

    def targets(self, batched_inputs: list[dict]) -> list[Targets]:
        """Of each image, on the device of the model."""
        targets = []
        for x in batched_inputs:
            instances = x["instances"].to(self.device)
            boxes = instances.gt_boxes.tensor.to(self.pixel_mean.dtype)
            boxes = relative_cxcywh(boxes, instances.image_size)
            segment_map = x.get("segment_map")
            if segment_map is not None:
                segment_map = segment_map.to(self.device)
            weights = instances.gt_weights if instances.has("gt_weights") else None
            targets.append(Targets(instances.gt_classes, boxes, segment_map, weights))
        return targets

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        """Results of each image, which do not depend on the others of the batch."""
        return infer_by_size(self._infer_one_size, batched_inputs)

    def _infer_one_size(self, batched_inputs: list[dict]) -> list[dict]:
        images = self.preprocess(batched_inputs)
        sizes = [
            (x.get("height", size[0]), x.get("width", size[1]))
            for x, size in zip(batched_inputs, images.image_sizes)
        ]
        return self.infer(images, sizes)

    def infer(self, images: ImageList, output_sizes: list[tuple[int, int]]) -> list[dict]:
        """Results of images of one size.

        Args:
            output_sizes: (height, width) of each original image, pixels.
        """
        predictions = self.predict(images, all_layers=False)
        return [
            {"instances": instances_from_queries(image_boxes, *classify(image_logits), size)}
            for image_boxes, image_logits, size in zip(
                predictions.boxes[-1], predictions.logits[-1], output_sizes
            )
        ]


class MLP(nn.Module):
    """Linear layers with ReLU between them: d -> hidden -> ... -> out."""

    def __init__(self, in_features: int, hidden: int, out_features: int, num_layers: int):
        super().__init__()
        widths = [in_features] + [hidden] * (num_layers - 1) + [out_features]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., out)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
