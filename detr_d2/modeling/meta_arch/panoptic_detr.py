"""Panoptic DETR: DETR with a mask for every query, merged into one panoptic map. [DETR 4.4]"""

from dataclasses import replace
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor, nn

from ...classes import classes_of_metadata, first_dataset, panoptic_classes
from ...errors import UserError
from ..backbone import level_shapes
from ..computing import at_least_float32
from ..known_boxes import in_boxes, logits_of_known, within_boxes
from ..mask_head import MaskQueries
from ..matcher import Targets
from ..merging import MergingRule
from ..postprocessing import (
    classify,
    instance_masks,
    instances_from_queries,
    is_confident,
    panoptic_from_masks,
)
from ..predictions import Predictions
from ..registries import ATTENTION_MAP_REGISTRY, MASK_HEAD_REGISTRY
from .detr import DETR


@META_ARCH_REGISTRY.register()
class PanopticDETR(DETR):
    """Boxes, masks and the panoptic map of things and stuff."""

    gives_panoptic = True
    gives_masks_of_boxes = True
    mask_head: Any  # with the methods of `MaskHeadSmallConv`
    is_thing: Tensor

    @classmethod
    def check_classes(cls, cfg, dataset_name: str) -> None:
        """See `ModelKind.check_classes`; things and stuff of the first dataset are to be known."""
        if dataset_name == first_dataset(cfg) and classes_of_metadata(dataset_name) is None:
            panoptic_classes(cfg)  # says so: a number of classes would be of things alone
        super().check_classes(cfg, dataset_name)

    @configurable
    def __init__(
        self,
        *,
        attention_map: nn.Module,
        mask_head: nn.Module,
        thing_classes: list[int],
        freeze_detr: bool,
        panoptic_score_threshold: float,
        merging: MergingRule,
        instance_score_threshold: float,
        instance_masks_on: bool,
        masks_per_chunk: int,
        **detr,
    ):
        """
        Args:
            thing_classes: the contiguous classes that are things; the others are stuff.
            freeze_detr: train the mask branch alone.
            panoptic_score_threshold: queries below it take no part in the panoptic map.
            merging: how the masks become the panoptic map.
            instance_score_threshold: queries below it are not among the `instances`.
            instance_masks_on: give `instances` masks.
            masks_per_chunk: how many masks inference computes at a time.
            **detr: the arguments of `DETR`.
        """
        super().__init__(**detr)
        self.bbox_attention = attention_map
        self.mask_head = mask_head
        self.panoptic_score_threshold = panoptic_score_threshold
        self.merging = merging
        self.instance_score_threshold = instance_score_threshold
        self.instance_masks_on = instance_masks_on
        if masks_per_chunk < 1:
            raise UserError(
                f"MODEL.DETR.MASKS_PER_CHUNK is {masks_per_chunk}: set the number of masks that "
                "are computed at a time, at least 1."
            )
        self.masks_per_chunk = masks_per_chunk
        is_thing = torch.zeros(self.class_embed.out_features - 1, dtype=torch.bool)
        is_thing[thing_classes] = True
        self.register_buffer("is_thing", is_thing, persistent=False)

        self.freeze_detr = freeze_detr
        if freeze_detr:
            self.requires_grad_(False)
            for module in self.mask_branch:
                module.requires_grad_(True)

    @classmethod
    def from_config(cls, cfg):
        """All parts, by MODEL.DETR, from their registries."""
        detr = cfg.MODEL.DETR
        arguments = super().from_config(cfg)
        shapes = level_shapes(detr.IN_FEATURES, arguments["backbone"])
        arguments.update(
            attention_map=ATTENTION_MAP_REGISTRY.build(detr.ATTENTION_MAP, cfg),
            mask_head=MASK_HEAD_REGISTRY.build(detr.MASK_HEAD, cfg, shapes),
            thing_classes=_thing_classes(cfg),
            freeze_detr=detr.FREEZE_DETR,
            panoptic_score_threshold=detr.PANOPTIC.SCORE_THRESHOLD,
            merging=MergingRule.from_config(cfg),
            instance_score_threshold=detr.INSTANCES.SCORE_THRESHOLD,
            instance_masks_on=detr.INSTANCES.MASKS_ON,
            masks_per_chunk=detr.MASKS_PER_CHUNK,
        )
        return arguments

    @classmethod
    def gives_instance_masks(cls, cfg) -> bool:
        """See `ModelKind.gives_instance_masks`."""
        return cfg.MODEL.DETR.INSTANCES.MASKS_ON

    @property
    def mask_branch(self) -> tuple[nn.Module, nn.Module]:
        """The modules that step two of the paper's training trains."""
        return self.bbox_attention, self.mask_head

    def train(self, mode: bool = True):
        """With `freeze_detr`, only the mask branch follows; the rest stays in eval mode."""
        super().train(mode and not self.freeze_detr)
        if self.freeze_detr:
            self.training = mode
            for module in self.mask_branch:
                module.train(mode)
        return self

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: as for `DETR`; in training also

                * segment_map: (height, width) integer, t + 1 where instance t of `instances`
                  is, 0 at VOID.

        Returns:
            In training the weighted losses by name. Otherwise, of each image, a dict with

            * "instances": Instances of the thing queries, with `pred_boxes`, `scores`,
              `pred_classes` and, if MODEL.DETR.INSTANCES.MASKS_ON, `pred_masks`.
            * "panoptic_seg": (map, segments_info), see `panoptic_from_masks`.
        """
        return super().forward(batched_inputs)

    def masks(self, predictions: Predictions, queries: list[Tensor]) -> Tensor:
        """Mask logits of chosen queries.

        Args:
            queries: for each of the B images, (K_b,) int64.

        Returns:
            (K, H/4, W/4), K = sum of K_b, image by image.
        """
        return at_least_float32(self.mask_head(*self._mask_arguments(predictions, queries)))

    def _mask_arguments(self, predictions: Predictions, queries: list[Tensor]) -> tuple:
        """Of the mask head's `forward`."""
        embeddings = [hs[rows] for hs, rows in zip(predictions.hs[-1], queries)]
        maps = self.bbox_attention(embeddings, predictions.memory, predictions.padding_mask)
        counts = [len(rows) for rows in queries]
        images = torch.cat([torch.full_like(rows, b) for b, rows in enumerate(queries)])
        rows = torch.cat(list(queries))
        described = MaskQueries(
            images,
            torch.cat(embeddings),
            predictions.boxes[-1, images, rows].detach(),
            predictions.logits[-1, images, rows].detach(),
            predictions.decoded,
            predictions.context.sizes,
            predictions.padded_size,
        )
        return predictions.projected, maps, counts, predictions.features, described

    def masks_in_chunks(self, predictions: Predictions, chosen: Tensor) -> Tensor:
        """Mask logits of the queries that are `chosen`, (B, N) bool; see `masks`.

        Masks do not depend on each other, so a few at a time are the same as all at once.
        """
        masks = []
        for chunk in chosen.nonzero().split(self.masks_per_chunk):
            images, rows = chunk.unbind(1)
            # Packed queries are in the order of their images, so a chunk has a run of images.
            counts = images.bincount(minlength=len(chosen)).tolist()
            touched = [image for image, count in enumerate(counts) if count] or [0]
            run = slice(touched[0], touched[-1] + 1)
            masks.append(self.masks(predictions.of_images(run), rows.split(counts[run])))
        return torch.cat(masks)

    @torch.no_grad()
    def masks_of_boxes(self, image: dict) -> Tensor:
        """Masks of things whose boxes are known, in one image.

        A thing's mask is that of the query that is nearest to its box, or that begins there (see
        `Decoded.queries_of_given`); attention maps, where a mask is made of them, and the mask end
        with the box.

        Args:
            image: `image`, `height` and `width` as in inference, and `instances`, Instances of T
                things with `gt_boxes` (pixels of `image`) and `gt_classes` (contiguous, -1 where a
                class is none of the model's).

        Returns:
            (T, height, width) bool.
        """
        images, (target,) = self.preprocess([image]), super().targets([image])
        predictions = self.predict(images, all_layers=False, given=target.boxes[None])
        of_image = predictions.logits[-1, 0], predictions.boxes[-1, 0], target.labels, target.boxes
        queries = predictions.decoded.queries_of_given(self.criterion.matcher, *of_image)
        sizes = predictions.padded_size, images.image_sizes[0], (image["height"], image["width"])
        masks = [torch.zeros(0, *sizes[-1], dtype=torch.bool, device=self.device)]
        for some in torch.arange(len(queries), device=self.device).split(self.masks_per_chunk):
            projected, maps, counts, features, known = self._mask_arguments(
                predictions, [queries[some]]
            )
            labels, boxes = target.labels[some], target.boxes[some]
            known = replace(known, boxes=boxes, logits=logits_of_known(known.logits, labels))
            maps = within_boxes(maps, boxes, predictions.context.sizes[0], predictions.padded_size)
            logits = at_least_float32(self.mask_head(projected, maps, counts, features, known))
            drawn = instance_masks(self.merging.upsampled(logits, *sizes))
            masks.append(drawn & in_boxes(boxes, *sizes[-1]))
        return torch.cat(masks)

    def losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Weighted losses by name; of the masks alone where DETR is frozen."""
        images, targets = self.preprocess(batched_inputs), self.targets(batched_inputs)
        predictions = self.predict(images, self.deep_supervision and not self.freeze_detr, targets)
        matches = self.match(predictions, targets)
        losses = {}
        if not self.freeze_detr:
            losses.update(self.set_losses(predictions, targets, matches))
        matches = predictions.decoded.with_further(matches)
        queries = matches.queries[-1].split(matches.counts)
        losses.update(
            self.mask_head.losses(
                self._mask_arguments(predictions, queries),
                targets,
                matches,
                self.criterion,
                predictions.padded_size,
            )
        )
        return losses

    def targets(self, batched_inputs: list[dict]) -> list[Targets]:
        """See `DETR.targets`.

        Raises:
            UserError: where an image has no `segment_map`.
        """
        for x in batched_inputs:
            if "segment_map" not in x:
                raise UserError(
                    f"{x.get('file_name', 'An input')} has no segment_map: PanopticDETR trains on "
                    "panoptic data. Use a panoptic dataset in DATASETS.TRAIN, or "
                    "MODEL.META_ARCHITECTURE DETR."
                )
        return super().targets(batched_inputs)

    def infer(self, images: ImageList, output_sizes: list[tuple[int, int]]) -> list[dict]:
        """See `DETR.infer`."""
        predictions = self.predict(images, all_layers=False)
        logits, boxes = predictions.logits[-1], predictions.boxes[-1]
        scores, classes = classify(logits)
        kept = is_confident(logits, self.panoptic_score_threshold)
        instances = self.is_thing[classes] & (scores > self.instance_score_threshold)
        masked = kept | instances if self.instance_masks_on else kept
        masks = self.masks_in_chunks(predictions, masked)

        results = []
        padded_size = images.tensor.shape[-2:]
        for b, image_masks in enumerate(masks.split(masked.sum(1).tolist())):
            sizes = padded_size, images.image_sizes[b]
            panoptic_seg = panoptic_from_masks(
                self.merging.upsampled(image_masks[kept[b, masked[b]]], *sizes, output_sizes[b]),
                classes[b, kept[b]],
                scores[b, kept[b]],
                self.is_thing,
                self.merging,
            )
            rows = instances[b]
            found = instances_from_queries(
                boxes[b, rows], scores[b, rows], classes[b, rows], output_sizes[b]
            )
            if self.instance_masks_on:
                found.pred_masks = torch.cat(
                    [
                        instance_masks(self.merging.upsampled(chunk, *sizes, output_sizes[b]))
                        for chunk in image_masks[rows[masked[b]]].split(self.masks_per_chunk)
                    ]
                )
            results.append({"instances": found, "panoptic_seg": panoptic_seg})
        return results


def _thing_classes(cfg) -> list[int]:
    PanopticDETR.check_classes(cfg, first_dataset(cfg))
    return panoptic_classes(cfg).things
