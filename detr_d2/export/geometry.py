"""The sizes of a picture on its way: numbers, or what a trace will have in their place."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .resizing import Taps, divided, official_size, taps_of


@dataclass(frozen=True)
class Resize:
    """INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST; a `length` of 0 leaves pictures as they are."""

    length: int
    max_size: int


@dataclass(frozen=True)
class Geometry:
    """
    Attributes:
        output_size, network_size: (height, width) of the picture and of what the network sees,
            whole numbers, or tensors that are traced.
        output_sides, network_sides: (2,) float32, width and height.
        taps: of rows and of columns, for `resize`; None where pictures stay as they are.
        nearest: (H',) and (W',) int64, the row and the column of the network's picture that each
            of the output shows, as `resize_nearest` has it.
    """

    output_size: tuple[Any, Any]
    network_size: tuple[Any, Any]
    output_sides: Tensor
    network_sides: Tensor
    taps: tuple[Taps, Taps] | None
    nearest: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, size: Tensor, resize: Resize, fixed: bool) -> "Geometry":
        """
        Args:
            size: (2,) int64, (height, width) of the picture.
            fixed: it is known, and the same for all pictures.
        """
        network = official_size(size, resize.length, resize.max_size) if resize.length else size
        rows, columns = (size[0], network[0]), (size[1], network[1])
        return cls(
            output_size=tuple(size.tolist()) if fixed else (size[0], size[1]),
            network_size=tuple(network.tolist()) if fixed else (network[0], network[1]),
            output_sides=size.flip(0).float(),
            network_sides=network.flip(0).float(),
            taps=(taps_of(*rows), taps_of(*columns)) if resize.length else None,
            nearest=(_nearest(*rows[::-1]), _nearest(*columns[::-1])),
        )


def _nearest(old: Tensor, new: Tensor) -> Tensor:
    """(new,) int64, adding up steps as Pillow does; the first is half of one."""
    numbers = torch.arange(new, device=old.device).double()  # type: ignore[call-overload]
    steps = (numbers.clamp(max=1) * 0.5 + 0.5) * divided(old, new)
    return torch.minimum(steps.cumsum(0).long(), old - 1)
