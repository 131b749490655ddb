"""What losses are divided by: counts over all images of a step.

They may lie on several processes, and go through the model in several parts (`SOLVER.PARTS`). Each
part divides its sums by the mean of all parts' counts, and the mean of the parts' losses is then
what one process would have with all images at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.utils import comm
from torch import Tensor


class PartCounts:
    """The counts of a step's parts on this process, which have to be known before the first of them
    has a loss: so the parts go through the model twice, at first without gradients."""

    def __init__(self, number_of_parts: int):
        self.number_of_parts = number_of_parts
        self._sums: list[Tensor] = []  # of each count, in the order in which losses ask for them
        self._asked, self._is_known = 0, False

    @contextmanager
    def of_a_part(self, known: bool) -> Iterator[None]:
        """Inside, one part goes through the model.

        Args:
            known: the counts of all parts are; otherwise those of this one are added to them.
        """
        global _active
        _active, self._asked, self._is_known = self, 0, known
        try:
            yield
        finally:
            _active = None

    def sum_of(self, number: Tensor) -> Tensor:
        """A count of the part that is in the model -> that of all parts, as far as it is known."""
        place, self._asked = self._asked, self._asked + 1
        if not self._is_known:
            if place == len(self._sums):
                self._sums.append(torch.zeros_like(number))
            self._sums[place] = self._sums[place] + number
        return self._sums[place]


_active: PartCounts | None = None


def are_shared() -> bool:
    """Whether a step has more images than those that are in the model."""
    return _active is not None or comm.get_world_size() > 1


def mean_over_parts(number: Tensor) -> Tensor:
    """Of a count of this part, whose sum over all parts and processes is taken as at least 1.

    Args:
        number: a scalar, or several counts, (L,).

    Returns:
        The same shape. It stays a tensor, since reading it would wait for the device.
    """
    parts = comm.get_world_size()
    if _active is not None:
        number = _active.sum_of(number)
        parts *= _active.number_of_parts
    if comm.get_world_size() > 1:
        number = number.clone()
        torch.distributed.all_reduce(number)
    return number.clamp(min=1) / parts
