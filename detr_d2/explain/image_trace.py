"""The tensors of one image, by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling.mask_head import MaskHeadSmallConv
from ..modeling.merging import MergingRule
from ..modeling.pyramid import NAMES
from ..modeling.refined_mask_head import RefinedMaskHead
from ..modeling.upsampling import UpsampledMasks, upsample_masks
from .mask_steps import MASK_HEAD_STEPS, mask_head_steps
from .names import describe

_QUERIES_AT_ONCE = 8
# What follows the steps of the mask head, where there is a window and a semantic map to start from.
_AFTER_STEPS = ("start_logits", "coarse_logits", "window_queries", "windows", "window_logits")


@dataclass(frozen=True)
class Attention:
    """An attention of the transformer with what went into it, for one image.

    Attributes:
        module: with its weights.
        queries: (Q, d), positions added.
        keys: (S, d), positions added.
        padding: (S,) bool, True at padding; None where there is none.
    """

    module: nn.MultiheadAttention
    queries: Tensor
    keys: Tensor
    padding: Tensor | None

    @torch.no_grad()
    def weights(self, rows: Tensor | None = None) -> Tensor:
        """(M, Q, S), which sum to 1 over S; with `rows`, (M, len(rows), S) of these queries.

        The fused attention of the model's own pass does not give them, so they are computed anew.
        """
        queries = self.queries if rows is None else self.queries[rows]
        padding = None if self.padding is None else self.padding[None]
        keys = self.keys[None]
        return self.module(
            queries[None], keys, keys, key_padding_mask=padding, average_attn_weights=False
        )[1][0]


class ImageTrace(Mapping[str, Tensor]):
    """All tensors of one image on its way through the model, in order; see explain/names.py.

    Shapes are those of one image, without the batch. What is large (attention weights, the steps
    of the mask head) is computed when it is asked for, from the tensors of the pass and the weights
    that the model has then.

    Attributes:
        output: what the model gave for the image.
        attentions: of each "encoder.i.self_attention", "decoder.i.self_attention" and
            "decoder.i.cross_attention".
        res5_stride: 32, or 16 with DC5.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor | None],
        attentions: dict[str, Attention],
        mask_head: Any,
        merging: MergingRule | None,
        output: dict,
        res5_stride: int,
    ):
        """
        Args:
            tensors: what was recorded, by name; attentions stand as None where their place is.
            mask_head, merging: None for a model that gives boxes alone.
        """
        self.output = output
        self.attentions = attentions
        self.res5_stride = res5_stride
        self._mask_head, self._merging = mask_head, merging
        self._values: dict[str, Tensor | Callable[[], Tensor]] = {
            name: partial(self._attention, name) if value is None else value
            for name, value in tensors.items()
        }
        if mask_head is not None:
            self._add_mask_branch()

    def __getitem__(self, name: str) -> Tensor:
        value = self._values[name]
        return value if isinstance(value, Tensor) else value()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def mask_head_steps(self, rows: Tensor) -> dict[str, Tensor]:
        """The steps of the mask head for some of the K queries: rows of `maps`, not of `hs`.

        Returns:
            "concatenation" to "out_lay", see `mask_steps.mask_head_steps`; nothing where the mask
            head is not `MaskHeadSmallConv`.
        """
        if not isinstance(self._mask_head, MaskHeadSmallConv):
            return {}
        return mask_head_steps(self._mask_head, self["projected"], self["maps"][rows], self)

    def convolved_rows(self) -> Tensor:
        """Which of the K queries go through the convolutions: all, or those without a window."""
        if "maps" not in self:
            return torch.arange(0)
        queries = self["mask_queries"]
        if not self._things_in_windows:
            return torch.arange(len(queries), device=queries.device)
        return (~torch.isin(queries, self["window_queries"])).nonzero()[:, 0]

    @property
    def _things_in_windows(self) -> bool:
        return getattr(self._mask_head, "things_in_windows", False)

    def kept_masks(self) -> UpsampledMasks:
        """What the model merges into `panoptic_seg`: the masks of the P kept queries."""
        size = self["image"].shape[-2:]  # inference does not pad
        output_size = self["panoptic_seg"].shape
        assert self._merging is not None, "a model that gives boxes alone has no masks"
        return self._merging.upsampled(self._kept_mask_logits(), size, size, output_size)

    def describe(self) -> list[dict]:
        """For each tensor its `name`, `shape` in `letters` and in numbers, `dtype`, `meaning`, and
        `range` [least, greatest], None where it has no element."""
        described = {}
        for name in self:
            if not name.startswith("mask_head."):
                described[name] = self._described(name, self[name])
        for name, summary in self._described_mask_head().items():
            described[name] = summary
        return [described[name] for name in self]

    def _described_mask_head(self) -> dict[str, dict]:
        """The steps of all queries together would be gigabytes, so a few queries at a time."""
        described: dict[str, dict] = {}
        for chunk in self.convolved_rows().split(_QUERIES_AT_ONCE):
            for step, value in self.mask_head_steps(chunk).items():
                name = f"mask_head.{step}"
                summary = self._described(name, value)
                described[name] = (
                    _joined(described[name], summary) if name in described else summary
                )
        return described

    def _described(self, name: str, value: Tensor) -> dict:
        mask_stride = getattr(self._mask_head, "mask_stride", 4)
        semantic_stride = getattr(self._mask_head, "semantic_stride", 4)
        letters, meaning = describe(name, self.res5_stride, mask_stride, semantic_stride)
        if name.startswith("mask_head.") and self._things_in_windows:
            letters = letters.replace("K x", "(K - Q) x")
        return {
            "name": name,
            "letters": letters,
            "shape": list(value.shape),
            "dtype": str(value.dtype).removeprefix("torch."),
            "range": [value.min().item(), value.max().item()] if value.numel() else None,
            "meaning": meaning,
        }

    def _attention(self, name: str) -> Tensor:
        weights = self.attentions[name].weights()
        if name.endswith("cross_attention"):
            return weights.unflatten(2, self["memory"].shape[-2:])
        return weights

    def _add_mask_branch(self) -> None:
        names = [name for name in (*_AFTER_STEPS, "mask_logits") if name in self._values]
        last = {name: self._values.pop(name) for name in names}
        if isinstance(self._mask_head, RefinedMaskHead):
            self._values["semantic"] = self._semantic
        if isinstance(self._mask_head, MaskHeadSmallConv):
            for step in MASK_HEAD_STEPS:
                self._values[f"mask_head.{step}"] = partial(self._mask_head_step, step)
        self._values.update(last)
        self._values["full_mask_logits"] = self._full_mask_logits
        self._values["panoptic_seg"] = self.output["panoptic_seg"][0]

    def _mask_head_step(self, step: str) -> Tensor:
        return self.mask_head_steps(self.convolved_rows())[step]

    @torch.no_grad()
    def _semantic(self) -> Tensor:
        # Of an image without a masked query, the model does not compute it.
        levels = [f"pyramid.{name}" for name in NAMES]
        maps = [self[level][None] for level in levels if level in self]
        return self._mask_head.semantic(maps)[0]

    def _full_mask_logits(self) -> Tensor:
        size = self["image"].shape[-2:]
        return upsample_masks(self._kept_mask_logits(), size, size)

    def _kept_mask_logits(self) -> Tensor:
        return self["mask_logits"][self["kept"][self["mask_queries"]]]


def _joined(some: dict, more: dict) -> dict:
    """The description of two parts of a tensor, stacked along its first axis K."""
    shape = list(some["shape"])
    if some["letters"].startswith(("K", "(K")):
        shape[0] += more["shape"][0]
    ends = [min(some["range"][0], more["range"][0]), max(some["range"][1], more["range"][1])]
    return {**some, "shape": shape, "range": ends}
