"""Which query has each pixel. [DETR 4.4; Cheng et al., arXiv:2112.01527]"""

from collections.abc import Callable

import torch
from torch import Tensor

from .upsampling import UpsampledMasks, look_up


class HighestLogit:
    """A pixel goes to the query with the highest mask logit there. [official]"""

    def winners(self, logits: Tensor) -> Tensor:
        """(..., K) -> (...) int64; of equal ones the first."""
        return logits.max(-1).indices

    def undisputed(self, logits: Tensor) -> Tensor:
        """(h, w, K) at the corners -> (h, w) int64: the query that has all of a cell, or -1.

        A bilinear value is a mean of the four corners, and the weights of the four are the same for
        all masks. So a mask that is the highest at all four is the highest between them.
        """
        highest = self.winners(logits)
        return torch.where(_agree(highest), highest, -1)

    def among(self, queries: Tensor) -> "HighestLogit":
        """The same for some of the queries, (K',) int64."""
        return self


class HighestScore:
    """A pixel goes to the query with the highest product of class score s and mask probability
    p = sigmoid(logit) there. [Cheng et al., arXiv:2112.01527]

    The query with the highest s p is the one with the lowest *cost*

        1/(s p) - 1/s_best = exp(-logit)/s + (1/s - 1/s_best)

    which takes one exponential, and tells queries of the best score apart where p is rounded to 1.
    All costs of a place are multiplied by exp(m), m being the lower of 0 and its highest logit:
    so the cheapest is finite, and tells queries apart where p is rounded to 0, far outside of all
    masks.
    """

    def __init__(self, scores: Tensor):
        """
        Args:
            scores: (K,) in (0, 1], K >= 1.
        """
        self.scores = scores
        self._inverse = 1 / scores
        self._excess = self._inverse - 1 / scores.amax()

    def winners(self, logits: Tensor) -> Tensor:
        """(..., K) -> (...) int64; of equal ones the first."""
        return self._costs(logits)[0].min(-1).indices

    def undisputed(self, logits: Tensor) -> Tensor:
        """(h, w, K) at the corners -> (h, w) int64: the query that has all of a cell, or -1.

        A logit in the cell lies between those of the corners, and costs fall as logits grow. So
        within the cell, a query costs at most what it costs at its dearest corner, and each of its
        rivals at least what the cheapest of them costs at any corner. Where one query is the
        cheapest at all four corners, and the former is below the latter, the cell is its own. (To
        be the cheapest at all four alone is not enough, since p is not bilinear.)
        """
        costs, m = self._costs(logits)
        cheapest = costs.min(-1)
        rival = costs.scatter_(-1, cheapest.indices[..., None], float("inf")).amin(-1)
        # Each corner has an exp(m) of its own, which is taken back.
        dearest = over_corners(cheapest.values.log() - m, torch.maximum)
        clear = dearest < over_corners(rival.log() - m, torch.minimum)
        return torch.where(clear & _agree(cheapest.indices), cheapest.indices, -1)

    def among(self, queries: Tensor) -> "HighestScore":
        """The same for some of the queries, (K',) int64."""
        return HighestScore(self.scores.index_select(0, queries))

    def _costs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(..., K) -> (..., K) costs times exp(m); (...) m."""
        m = logits.amax(-1).clamp(max=0)
        costs = (m[..., None] - logits).exp_().mul_(self._inverse.to(logits))
        return costs.addcmul_(m.exp()[..., None], self._excess.to(logits)), m


class Competition:
    """The queries of one image and their masks, and what decides between them."""

    def __init__(self, masks: UpsampledMasks, decides: HighestLogit | HighestScore):
        """
        Args:
            masks: of the K queries.
        """
        self.masks, self.decides = masks, decides

    def winners(self, remaining: Tensor, before: Tensor | None = None) -> Tensor:
        """The query that has each pixel: masks are interpolated where a cell is disputed alone,
        along the borders of segments.

        Args:
            remaining: (K,) bool, the queries that take part.
            before: (h', w') int32, the winners when more took part. Those that are left keep their
                pixels; where all or none are left, all stays as it is.

        Returns:
            (h', w') int32.
        """
        if before is not None and (remaining.all() or not remaining.any()):
            return before
        queries = remaining.nonzero()[:, 0].int()
        decides = self.decides.among(queries)
        kept = None if before is None else look_up(remaining, before)
        # To look at all cells does not pay for the pixels of a few.
        if before is None or kept is None or (~kept).sum() > self.masks.logits[0].numel():
            winners = self.masks.of_cells(self._undisputed(decides, queries))
        else:
            winners = torch.full_like(before, -1)
        if before is not None and kept is not None:
            winners = torch.where(kept, before, winners)
        disputed = (winners < 0).nonzero()
        winners[tuple(disputed.T)] = self._winners_at(disputed, decides, queries)
        return winners

    def _undisputed(self, decides: HighestLogit | HighestScore, queries: Tensor) -> Tensor:
        """(h, w) int32, see `HighestLogit.undisputed`; some rows at a time."""
        by_pixel, height = self.masks.by_pixel, self.masks.logits.shape[1]
        step = max(1, self.masks.pixels_at_once // self.masks.logits.shape[2])
        winners = []
        for first in range(0, height, step):
            logits = _of(by_pixel[first : first + step + 1], queries)  # with the corners below
            winners.append(decides.undisputed(logits)[:step])
        winners = torch.cat(winners)
        return torch.where(winners < 0, -1, queries[winners])

    def _winners_at(
        self, pixels: Tensor, decides: HighestLogit | HighestScore, queries: Tensor
    ) -> Tensor:
        """(P, 2) int64 -> (P,) int32."""
        winners = [
            decides.winners(_of(self.masks.at(some), queries))
            for some in pixels.split(self.masks.pixels_at_once)
        ]
        return queries[torch.cat(winners)]


def _of(logits: Tensor, queries: Tensor) -> Tensor:
    """(..., K), (K',) -> (..., K')"""
    everyone = logits.shape[-1] == len(queries)
    return logits if everyone else logits.index_select(-1, queries)


def _agree(winners: Tensor) -> Tensor:
    """(h, w) at the corners -> (h, w) bool: it is the same at all four corners of the cell."""
    return over_corners(winners, torch.minimum) == over_corners(winners, torch.maximum)


def over_corners(values: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(h, w, ...) at the corners -> (h, w, ...), all four of each cell combined."""
    values = combine(values, _next_along(values, 0))
    return combine(values, _next_along(values, 1))


def _next_along(values: Tensor, axis: int) -> Tensor:
    """Each is the next one along the axis; the last is its own."""
    length = values.shape[axis]
    following = torch.arange(1, length + 1, device=values.device).clamp(max=length - 1)
    return values.index_select(axis, following)
