"""The config.json of Hugging Face's DETR: read for what weights do not say, and written."""

import re
from typing import Any

from torch import Tensor

from ..errors import UserError
from .classes import (
    COCO_PANOPTIC,
    COCO_PANOPTIC_RAW,
    COCO_THINGS,
    COCO_THINGS_RAW,
    Classes,
    coco_classes,
)

Weights = dict[str, Tensor]
_UNUSED = "N/A"  # what Hugging Face's COCO models call a row that no category uses
_NO_NAME = re.compile(r"LABEL_\d+")

# Blocks of Res2..Res5, and convolutions in each block.
_DEPTH_OF: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2, 2): 18,
    (3, 4, 6, 3, 2): 34,
    (3, 4, 6, 3, 3): 50,
    (3, 4, 23, 3, 3): 101,
    (3, 8, 36, 3, 3): 152,
}


def classes_of_config(config: dict[str, Any], num_rows: int) -> Classes | None:
    """The classes of a head of `num_rows` rows, no-object counted, by the names in `id2label`."""
    labels = {int(row): str(label) for row, label in (config.get("id2label") or {}).items()}
    given_names = [labels.get(row, _UNUSED) for row in range(num_rows - 1)]
    names = [None if n == _UNUSED or _NO_NAME.fullmatch(n) else n for n in given_names]
    given = sum(name is not None for name in names)
    if not given:
        return coco_classes(num_rows)
    for coco in (COCO_THINGS, COCO_PANOPTIC, COCO_THINGS_RAW, COCO_PANOPTIC_RAW):
        same = sum(ours is not None and ours == name for ours, name in zip(coco.names, names))
        # Names of unused rows, and the spelling of single names, differ between models.
        if len(coco) == len(names) and same > given / 2:
            return coco
    return Classes(tuple(names), (None,) * len(names))


def is_dilated(config: dict[str, Any]) -> bool:
    """Whether Res5 is dilated (DC5), in the words of transformers 4 or 5."""
    backbone = config.get("backbone_config") or {}
    return bool(config.get("dilation")) or backbone.get("output_stride") == 16


def config_of(
    weights: Weights, classes: Classes | None, dilation: bool | None, num_heads: int | None
) -> dict[str, Any]:
    """The config.json with which transformers builds the model of `weights` (by our names).

    Raises:
        UserError: where transformers has no such model.
    """
    if "transformer.encoder.norm.weight" in weights:
        raise UserError("Hugging Face's DETR has no pre-norm variant: convert to another format.")
    d_model = weights["class_embed.weight"].shape[1]
    labels = labels_of(weights, classes)
    architecture = "DetrForSegmentation" if is_panoptic(weights) else "DetrForObjectDetection"
    learned = "position_encoding.row_embed.weight" in weights
    return {
        "architectures": [architecture],
        "model_type": "detr",
        "d_model": d_model,
        "num_queries": len(weights["query_embed.weight"]),
        "encoder_layers": _count(weights, r"transformer\.encoder\.layers\.(\d+)\.norm1\.bias"),
        "decoder_layers": _count(weights, r"transformer\.decoder\.layers\.(\d+)\.norm1\.bias"),
        "encoder_attention_heads": num_heads,
        "decoder_attention_heads": num_heads,
        "encoder_ffn_dim": _ffn_dim(weights, "encoder"),
        "decoder_ffn_dim": _ffn_dim(weights, "decoder"),
        "position_embedding_type": "learned" if learned else "sine",
        "num_channels": 3,
        "id2label": {str(row): label for row, label in enumerate(labels)},
        "label2id": {label: row for row, label in enumerate(labels)},
        "dtype": str(weights["class_embed.weight"].dtype).removeprefix("torch."),
        "use_pretrained_backbone": False,
        **(_timm_backbone(weights) if dilation else _transformers_backbone(weights)),
    }


def is_panoptic(weights: Weights) -> bool:
    """Whether the weights have a mask head."""
    return "bbox_attention.q_linear.weight" in weights


def num_heads_of(weights: Weights) -> int | None:
    """M, which the mask head's input channels d + M tell; None for a model of boxes alone."""
    if not is_panoptic(weights):
        return None
    return weights["mask_head.lay1.weight"].shape[1] - weights["class_embed.weight"].shape[1]


def labels_of(weights: Weights, classes: Classes | None) -> list[str]:
    """A label for each row but no-object's."""
    if classes is None:
        return [f"LABEL_{row}" for row in range(len(weights["class_embed.bias"]) - 1)]
    return [name or _UNUSED for name in classes.names]


def _count(weights: Weights, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


def _ffn_dim(weights: Weights, coder: str) -> int:
    return len(weights[f"transformer.{coder}.layers.0.linear1.bias"])


def _blocks(weights: Weights) -> list[int]:
    return [_count(weights, rf"backbone\.res{s}\.(\d+)\.conv1\.weight") for s in range(2, 6)]


def _convolutions(weights: Weights) -> int:
    return 3 if "backbone.res2.0.conv3.weight" in weights else 2


def _widths(weights: Weights) -> list[int]:
    last = f"conv{_convolutions(weights)}"
    return [len(weights[f"backbone.res{s}.0.{last}.weight"]) for s in range(2, 6)]


def _transformers_backbone(weights: Weights) -> dict[str, Any]:
    """transformers' own ResNet, of any depth and width."""
    bottleneck = _convolutions(weights) == 3
    widths = _widths(weights)
    for stage, width in zip(range(2, 6), widths):
        # Grouped or wide convolutions (ResNeXt, Wide ResNet) have other shapes.
        inner = width // 4 if bottleneck else width
        shape = weights[f"backbone.res{stage}.0.conv2.weight"].shape
        if tuple(shape[:2]) != (inner, inner):
            raise UserError(
                f"Hugging Face's ResNet has no convolution of shape {tuple(shape)} in Res{stage}: "
                "convert to another format."
            )
    backbone = {
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": len(weights["backbone.stem.conv1.weight"]),
        "hidden_sizes": widths,
        "depths": _blocks(weights),
        "layer_type": "bottleneck" if bottleneck else "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    return {
        "use_timm_backbone": False,
        "backbone": None,
        "backbone_config": backbone,
        "dilation": False,
    }


def _timm_backbone(weights: Weights) -> dict[str, Any]:
    """timm's ResNet, since transformers' has no dilation. timm has the standard widths alone."""
    convolutions = _convolutions(weights)
    depth = _DEPTH_OF.get((*_blocks(weights), convolutions))
    standard = [64 * 2**i * (4 if convolutions == 3 else 1) for i in range(4)]
    if depth is None or _widths(weights) != standard:
        raise UserError(
            f"Hugging Face's DETR has DC5 for the standard ResNets alone, not for blocks "
            f"{_blocks(weights)} of widths {_widths(weights)}: convert to another format."
        )
    return {"use_timm_backbone": True, "backbone": f"resnet{depth}", "dilation": True}
