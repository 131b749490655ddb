"""What a run takes besides time: operations and peak memory."""

import contextlib
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    conv_flop_count,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)


def _flops_of_attention(q, k, v, *_, out_shape=None, **__) -> int:
    return sdpa_flop_count(q, k, v)


def _flops_of_attention_backward(grad, q, k, v, *_, out_shape=None, **__) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def _flops_of_convolution(x, weight, *_, out_shape=None, **__) -> int:
    return conv_flop_count(x, weight, out_shape)


def _flops_of_convolution_with_sum(added, x, weight, *_, out_shape=None, **__) -> int:
    return conv_flop_count(x, weight, out_shape)


# What PyTorch's counter does not know: the fused attention of the CPU, and convolutions with a
# ReLU, and with a sum before it. By names, since not every PyTorch has them.
_FLOPS_OF = {
    ("aten", "_scaled_dot_product_flash_attention_for_cpu"): _flops_of_attention,
    ("aten", "_scaled_dot_product_flash_attention_for_cpu_backward"): _flops_of_attention_backward,
    ("mkldnn", "_convolution_pointwise"): _flops_of_convolution,
    ("mkldnn", "_convolution_pointwise_"): _flops_of_convolution_with_sum,
}


class OperationCounter(FlopCounterMode):
    """Counts the multiplications with additions of what runs within it, in `macs`.

    Of convolutions and matrix products alone, as they are dispatched: a fused attention counts,
    which a traced graph would not show.
    """

    def __init__(self):
        mapping = {
            getattr(getattr(torch.ops, library), name): flops
            for (library, name), flops in _FLOPS_OF.items()
            if hasattr(getattr(torch.ops, library), name)
        }
        super().__init__(display=False, custom_mapping=mapping)

    @property
    def macs(self) -> int:
        """Multiplications with additions so far."""
        return self.get_total_flops() // 2


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
