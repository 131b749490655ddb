"""Time, by the wall on the CPU and by events on the GPU; of a whole run and of its phases."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn


class Clock:
    """Seconds between marks on a device: a processor's clock, or events of a GPU.

    Args:
        device: "cpu" or "cuda".
    """

    def __init__(self, device: str):
        self.device = device

    def now(self):
        """A mark; on the GPU it stands in the stream, so that nothing waits for it."""
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end) -> float:
        """Between two marks, once both are passed."""
        if self.device == "cpu":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def time(self, run: Callable[[], object]) -> float:
        """Seconds of one run, until a GPU has done it."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        start = self.now()
        run()
        return self.seconds(start, self.now())


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
