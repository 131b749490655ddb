"""What a trace is made from: the tensors of a pass, and how a method is watched."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from ..modeling.meta_arch import DETR, PanopticDETR
from ..modeling.postprocessing import classify, is_confident
from ..modeling.refined_mask_head import MaskParts
from .image_trace import Attention, ImageTrace


@dataclass
class Pass:
    """What was recorded while images of one size went through the model together.

    Attributes:
        inputs: of these images.
        tensors: (B, ...) each.
        layers: those of the encoder's and decoder's layers, in the order of computation; None keeps
            the place of an attention.
        attentions: (module, queries (B, Q, d), keys (B, S, d), padding (B, S) or None).
        parts: (B, ...) each, what a pyramid, a dense head and proposals give.
        maps: what the module of the attention maps gave, chunk by chunk.
        mask_parts: what a mask head that starts from a semantic map and has windows gave, likewise.
        masked: of each image (query numbers, maps, mask logits).
    """

    inputs: list[dict]
    tensors: dict[str, Tensor]
    layers: dict[str, Tensor | None] = field(default_factory=dict)
    attentions: dict[str, tuple] = field(default_factory=dict)
    parts: dict[str, Tensor] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    mask_parts: list[MaskParts] = field(default_factory=list)
    masked: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def of_image(self, model: DETR, row: int, output: dict, threshold: float) -> ImageTrace:
        """The trace of one image.

        Args:
            row: of the image in the batch.
            output: what the model gave for it.
            threshold: score that queries pass.
        """
        batched: dict[str, Tensor | None] = {
            **_picked(self.tensors, ("image", *self.features, "projected", "positions")),
            **{name: value for name, value in self.layers.items() if name.startswith("encoder")},
            **_picked(self.tensors, ("memory",)),
            **self.parts,
            **_picked(self.tensors, ("stuff_queries", "queries")),
            **{name: value for name, value in self.layers.items() if name.startswith("decoder")},
            **_picked(self.tensors, ("hs", "logits", "boxes")),
        }
        tensors = {name: None if value is None else value[row] for name, value in batched.items()}
        logits = self.tensors["logits"][row]
        tensors["scores"], tensors["classes"] = classify(logits)
        tensors["kept"] = is_confident(logits, threshold)
        if isinstance(model, PanopticDETR):
            names = ("mask_queries", "maps", "mask_logits")
            tensors.update(zip(names, self.masked[row]))
        if self.mask_parts:
            tensors.update(self._mask_parts_of(row))
        attentions = {
            name: Attention(module, queries[row], keys[row], None if pad is None else pad[row])
            for name, (module, queries, keys, pad) in self.attentions.items()
        }
        return ImageTrace(
            tensors,
            attentions,
            getattr(model, "mask_head", None),
            getattr(model, "merging", None),
            output,
            model.level_shapes["res5"].stride,
        )

    def _mask_parts_of(self, row: int) -> dict[str, Tensor]:
        """Of one image of the batch, whose queries are a run of those of all chunks."""
        counts = [len(queries) for queries, _, _ in self.masked]
        first = sum(counts[:row])
        run = slice(first, first + counts[row])
        starts = [0, *accumulate(len(part.coarse) for part in self.mask_parts)]
        things = torch.cat([part.things + n for part, n in zip(self.mask_parts, starts)])
        own = (things >= run.start) & (things < run.stop)

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in self.mask_parts])

        return {
            "start_logits": joined("start")[run],
            "coarse_logits": joined("coarse")[run],
            "window_queries": self.masked[row][0][things[own] - first],
            "windows": joined("windows")[own],
            "window_logits": joined("window_logits")[own],
        }

    @property
    def features(self) -> list[str]:
        """The names of the backbone's levels, such as "res5"."""
        return [name for name in self.tensors if re.fullmatch(r"res\d", name)]


def _picked(tensors: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names if name in tensors}


@contextmanager
def wrapped(model: nn.Module, name: str, record: Callable) -> Iterator[None]:
    """`record(arguments, result)` after each call of the method `name` of `model`."""
    method = getattr(model, name)
    before = vars(model).get(name)

    def recorded(*arguments, **keywords):
        result = method(*arguments, **keywords)
        record(arguments, result)
        return result

    setattr(model, name, recorded)
    try:
        yield
    finally:
        delattr(model, name)
        if before is not None:
            setattr(model, name, before)


def copied(tensor: Tensor) -> Tensor:
    """A copy without gradients."""
    # The model may go on writing into its own.
    return tensor.detach().clone()
