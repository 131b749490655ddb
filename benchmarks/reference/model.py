"""DETR and panoptic DETR as they were published, with the parameter names of ours."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import ResNet
from .losses import losses
from .mask_head import AttentionMap, MaskHead
from .postprocessing import instances_of, panoptic_of
from .transformer import Transformer, sine_positions


class ReferencePanopticDETR(nn.Module):
    """Post-norm, sine positions, auxiliary outputs of all layers, masks of all N queries.

    It takes the inputs that `PanopticDETR` takes, and in training also `masks` (T, h, w) bool of
    each image in place of `segment_map`; its `state_dict` is that of `PanopticDETR`.
    """

    bbox_embed: Any  # with a list of layers
    mean: Tensor
    std: Tensor

    def __init__(self, cfg, is_thing: list[bool], with_masks: bool = True):
        """
        Args:
            is_thing: of each class.
            with_masks: False leaves out the mask branch, which makes it DETR.
        """
        super().__init__()
        detr = self.detr = cfg.MODEL.DETR
        self.is_thing = is_thing
        d = detr.HIDDEN_DIM
        channels = [cfg.MODEL.RESNETS.RES2_OUT_CHANNELS * 2**n for n in range(4)]
        self.backbone = ResNet(cfg)
        self.input_proj = nn.Conv2d(channels[3], d, 1)
        self.query_embed = nn.Embedding(detr.NUM_OBJECT_QUERIES, d)
        self.transformer = Transformer(detr)
        self.class_embed = nn.Linear(d, detr.NUM_CLASSES + 1)
        self.bbox_embed = nn.Module()
        self.bbox_embed.layers = nn.ModuleList(nn.Linear(d, n) for n in (d, d, 4))
        if with_masks:
            self.bbox_attention = AttentionMap(d, detr.NHEADS)
            self.mask_head = MaskHead(d, detr.NHEADS, channels[2::-1])
        self.with_masks = with_masks
        for name, values in (("mean", cfg.MODEL.PIXEL_MEAN), ("std", cfg.MODEL.PIXEL_STD)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def train(self, mode: bool = True):
        """With FREEZE_DETR only the mask branch trains, and dropout is off elsewhere."""
        super().train(mode and not self.detr.FREEZE_DETR)
        self.training = mode
        return self

    def forward(self, batched_inputs: list[dict]):
        """Losses by name in training; otherwise "instances" and "panoptic_seg" of each image."""
        images = [(x["image"].to(self.mean.device) - self.mean) / self.std for x in batched_inputs]
        size = tuple(max(image.shape[n] for image in images) for n in (1, 2))
        batch = images[0].new_zeros(len(images), 3, *size)
        padding = torch.ones(len(images), *size, dtype=torch.bool, device=batch.device)
        for b, image in enumerate(images):
            batch[b, :, : image.shape[1], : image.shape[2]] = image
            padding[b, : image.shape[1], : image.shape[2]] = False
        predictions = self.predict(batch, padding)
        if self.training:
            targets = [self.target(x) for x in batched_inputs]
            result = losses(predictions, targets, self.detr, size)
            frozen = self.detr.FREEZE_DETR
            return {
                k: v for k, v in result.items() if not frozen or k in ("loss_mask", "loss_dice")
            }
        return self.results(predictions[-1], batched_inputs)

    def predict(self, batch: Tensor, padding: Tensor) -> list[dict]:
        """(B, 3, H, W), (B, H, W) bool -> what each decoder layer says, see `losses`."""
        features = self.backbone(batch)
        res5 = features["res5"]
        mask = F.interpolate(padding[None].float(), size=res5.shape[-2:])[0].bool()
        positions = sine_positions(mask, self.detr.HIDDEN_DIM, batch.dtype)
        projected = self.input_proj(res5)
        hs, memory = self.transformer(projected, mask, self.query_embed.weight, positions)
        logits = self.class_embed(hs)
        hidden = hs
        for layer in self.bbox_embed.layers[:-1]:
            hidden = layer(hidden).relu()
        boxes = self.bbox_embed.layers[-1](hidden).sigmoid()
        predictions = [{"logits": a, "boxes": b} for a, b in zip(logits, boxes)]
        if self.with_masks:
            maps = self.bbox_attention(hs[-1], memory, mask)
            predictions[-1]["masks"] = self.mask_head(projected, maps, features)
        return predictions if self.detr.DEEP_SUPERVISION else predictions[-1:]

    def target(self, x: dict) -> dict:
        height, width = x["image"].shape[-2:]
        boxes = x["instances"].gt_boxes.tensor.to(self.mean)
        x0, y0, x1, y1 = boxes.unbind(1)
        boxes = torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), 1)
        scale = boxes.new_tensor([width, height, width, height])
        masks = x["masks"].to(boxes.device) if self.with_masks else None
        labels = x["instances"].gt_classes.to(boxes.device)
        return {"labels": labels, "boxes": boxes / scale, "masks": masks}

    def results(self, prediction: dict, batched_inputs: list[dict]) -> list[dict]:
        results = []
        for b, x in enumerate(batched_inputs):
            processed = tuple(x["image"].shape[-2:])
            output = (x.get("height", processed[0]), x.get("width", processed[1]))
            logits = prediction["logits"][b]
            result = {"instances": instances_of(logits, prediction["boxes"][b], output)}
            if self.with_masks:
                # Detectron2 wants the things among its instances alone.
                found = result["instances"]
                things = torch.tensor(self.is_thing, device=logits.device)
                result["instances"] = found[things[found.pred_classes]]
                masks = prediction["masks"][b]
                result["panoptic_seg"] = panoptic_of(
                    logits, masks, self.is_thing, self.detr, processed, output
                )
            results.append(result)
        return results
