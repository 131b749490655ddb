"""Where the time of a run goes: its phases, and how far repeated runs spread."""

from collections.abc import Callable

import numpy as np
from torch import nn

from detr_d2.comparison.measuring import Clock


class Phases:
    """Marks around the forward passes of some modules, and the seconds between them.

    What no module of the list does is "the rest".
    """

    def __init__(self, clock: Clock, modules: dict[str, list[nn.Module]]):
        """
        Args:
            modules: of each phase.
        """
        self.clock = clock
        self.marks: list[tuple[str, object, object]] = []
        self.started: list = []
        self.names = list(modules)
        for name, parts in modules.items():
            for part in parts:
                part.register_forward_pre_hook(self._start)
                part.register_forward_hook(self._end(name))

    def _start(self, *_) -> None:
        self.started.append(self.clock.now())

    def _end(self, name: str) -> Callable:
        def end(*_) -> None:
            self.marks.append((name, self.started.pop(), self.clock.now()))

        return end

    def take(self, whole: float) -> dict[str, float]:
        """Seconds of each phase since the last call, which took `whole` seconds in all."""
        seconds = dict.fromkeys(self.names, 0.0)
        for name, start, end in self.marks:
            seconds[name] += self.clock.seconds(start, end)
        self.marks.clear()
        seconds["the rest"] = whole - sum(seconds.values())
        return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles and minimum, in seconds."""
    low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
    return {
        "median": median,
        "lower_quartile": low,
        "upper_quartile": high,
        "min": min(seconds),
        "runs": len(seconds),
    }
