"""Which model is measured, in which precision, compiled or not."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from detr_d2.errors import UserError

MODELS = ("reference", "fast", "proposals", "panoptic-fpn")
# What computes something else than the reference: nothing is compared.
OTHERS = ("proposals", "panoptic-fpn")
# The parts that learn fast, in place of the official ones (docs/learning_fast.md).
_PARTS = {
    "proposals": (
        *("MODEL.DETR.TRANSFORMER", "ProposalTransformer"),
        *("MODEL.DETR.MASK_HEAD", "RefinedMaskHead"),
    )
}
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PRECISIONS = ("tf32", *_HALF)


@dataclass(frozen=True)
class Variant:
    """
    Attributes:
        model: one of MODELS.
        precision: "float32", "tf32" (on the GPU), or "bf16" or "fp16" by automatic mixed
            precision.
        compiled: backbone, transformer and mask head go through `torch.compile`.
    """

    model: str
    precision: str = "float32"
    compiled: bool = False

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """From "MODEL[+tf32|+bf16|+fp16][+compile]"."""
        model, *options = text.split("+")
        precisions = [x for x in options if x in _PRECISIONS]
        known = model in MODELS and len(precisions) < 2
        if not known or set(options) - {*precisions, "compile"}:
            raise UserError(
                f"There is no variant {text}: give one of {', '.join(MODELS)}, and behind it "
                "+tf32, +bf16 or +fp16, and +compile, as in fast+bf16+compile."
            )
        if model == "reference" and set(precisions) & set(_HALF):
            raise UserError(f"The reference runs in float32 and tf32 alone, not as {text}.")
        precision = precisions[0] if precisions else "float32"
        return cls(model, precision, "compile" in options)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of DETR's configuration, keys and values in turn."""
        return _PARTS.get(self.model, ())

    def __str__(self) -> str:
        options = [self.precision] if self.precision != "float32" else []
        return "+".join([self.model, *options, *["compile"] * self.compiled])

    @contextlib.contextmanager
    def computing(self, device: str) -> Iterator[None]:
        """Within it, forward passes are computed in this variant's precision."""
        switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [switch.allow_tf32 for switch in switches]
        for switch in switches:
            switch.allow_tf32 = self.precision == "tf32"
        try:
            dtype = _HALF.get(self.precision)
            with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                yield
        finally:
            for switch, value in zip(switches, before):
                switch.allow_tf32 = value


PLAIN = (Variant("reference"), Variant("fast"))  # for what has no precision to choose


def default_variants(device: str) -> tuple[Variant, ...]:
    """What is compared on "cpu" or "cuda" unless one says otherwise."""
    names = ["reference", "fast", "fast+bf16", "proposals", "panoptic-fpn"]
    if device == "cuda":
        names = [f"{x}{y}" for x in MODELS for y in ("", "+tf32")]
        names += ["fast+bf16", "fast+fp16", "panoptic-fpn+bf16"]
    return tuple(map(Variant.parse, names))
