"""What DETR predicts."""

from dataclasses import dataclass, replace

from torch import Tensor

from .transformer import Context, Decoded


@dataclass(frozen=True)
class Predictions:
    """What DETR predicts for a batch of B images, and what they became on the way there.

    Attributes:
        features: the backbone's maps, "res2" (B, C, H/4, W/4) to "res5" (B, C, H/32, W/32).
        padding_mask: (B, H/32, W/32) bool, True at padding; None where there is none.
        projected: (B, d, H/32, W/32), Res5 after the 1x1 projection.
        decoded: what the transformer gives.
        logits, boxes: (L, B, N, C + 1) and (L, B, N, 4), what is predicted from `hs`.
        context: what the transformer was told.
        padded_size: (H, W) of the batch, pixels.
    """

    features: dict[str, Tensor]
    padding_mask: Tensor | None
    projected: Tensor
    decoded: Decoded
    logits: Tensor
    boxes: Tensor
    context: Context
    padded_size: tuple[int, int]

    @property
    def memory(self) -> Tensor:
        """(B, d, H/32, W/32), the encoder's output."""
        return self.decoded.memory

    @property
    def hs(self) -> Tensor:
        """(L, B, N, d), the outputs of the decoder's layers."""
        return self.decoded.hs

    def of_images(self, images: slice) -> "Predictions":
        """The same for some images of the batch."""
        mask = self.padding_mask
        return Predictions(
            {name: feature[images] for name, feature in self.features.items()},
            None if mask is None else mask[images],
            self.projected[images],
            self.decoded.of_images(images),
            self.logits[:, images],
            self.boxes[:, images],
            replace(self.context, sizes=self.context.sizes[images]),
            self.padded_size,
        )
