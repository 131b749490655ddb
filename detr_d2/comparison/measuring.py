"""What a run takes: time, operations, peak memory."""

import contextlib
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import (
    conv_flop_count,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)


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


# The fused attention of the CPU, which the counter knows of the GPU alone.
_OF_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_OF_CPU_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


_FLOPS_OF = {
    **flop_registry,
    _OF_CPU: lambda q, k, v, *_, **__: sdpa_flop_count(q.shape, k.shape, v.shape),
    _OF_CPU_BACKWARD: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(
        grad.shape, q.shape, k.shape, v.shape
    ),
}


def _flops_of_convolution(x: Tensor, weight: Tensor, *_, out_val: Tensor) -> int:
    return conv_flop_count(list(x.shape), list(weight.shape), list(out_val.shape))


# Convolutions with a ReLU, and with a sum before it. By name: not every PyTorch has them.
_FLOPS_OF_NAMED = {
    "mkldnn::_convolution_pointwise": _flops_of_convolution,
    "mkldnn::_convolution_pointwise_": lambda added, *rest, out_val: _flops_of_convolution(
        *rest, out_val=out_val
    ),
}


class OperationCounter(TorchDispatchMode):
    """Counts the multiplications with additions of what runs within it, in `macs`.

    Of convolutions and matrix products alone, as they are dispatched: a fused attention counts,
    which a traced graph would not show.
    """

    def __init__(self):
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        flops_of = _FLOPS_OF.get(func.overloadpacket) or _FLOPS_OF_NAMED.get(func._schema.name)
        if flops_of is not None:
            self.macs += flops_of(*args, **kwargs, out_val=out) // 2
        return out


def peak_on_gpu(run: Callable[[], object]) -> int:
    """Bytes that are allocated at most during `run`, over those allocated before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def in_fresh_process(function: Callable, *arguments):
    """What `function` gives in a process of its own, where nothing has run before."""
    method = multiprocessing.get_start_method(allow_none=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _start_processes_by, (method,)) as pool:
        return pool.submit(function, *arguments).result()


def _start_processes_by(method: str | None) -> None:
    """A spawned process would spawn those that it starts, which takes seconds."""
    multiprocessing.set_start_method(method, force=True)


def peak_on_cpu(run: Callable[[], object]) -> int:
    """Bytes that are resident at most during `run`, over those resident before.

    Only a fresh process tells the truth: the allocator keeps what was freed for later use.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = _resident("VmRSS")
    run()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    """A line of /proc/self/status in bytes; elsewhere the peak, of which nothing is smaller."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines = [line for line in status.read_text().splitlines() if line.startswith(f"{key}:")]
    return int(lines[0].split()[1]) * 1024
