"""What a model costs at inference: parameters, multiply-adds, time and memory."""

import platform
import re
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..checkpoint import Checkpointer
from ..engine import Trainer, setup_cfg

_IMAGES = 20  # of the test dataset, one at a time
_WARM_UP = 3


def measure_cost(config_file: str, overrides: Sequence[str], weights: str) -> dict:
    """Measure inference on the first images of the test dataset, one at a time.

    It runs in a process of its own, since the peak of a process's memory never falls; that knows
    the datasets which the configuration registers, and no others.

    Returns:
        * parameters: how many, frozen ones among them.
        * multiply_adds: of one image, the mean. fvcore and most papers call it FLOPs.
        * seconds: of one image, the median.
        * peak_bytes: of memory, weights included: allocated on a GPU; on a CPU, what the process
          has grown by.
        * device: its name, and the number of threads on a CPU.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, config_file, tuple(overrides), weights).result()


def _measure(config_file: str, overrides: tuple[str, ...], weights: str) -> dict:
    cfg = setup_cfg(config_file, overrides)
    inputs = list(islice(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]), _IMAGES))
    before = _peak_of_process()
    # Without gradients in a parameter itself: PyTorch's counter stumbles over one that is handed
    # to a module, such as the query embeddings.
    model = Trainer.build_model(cfg).eval().requires_grad_(False)
    Checkpointer.from_config(cfg, model).load(weights)
    device = torch.device(cfg.MODEL.DEVICE)
    seconds = _median_seconds(model, inputs, device)
    on_gpu = device.type == "cuda"
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "peak_bytes": (
            torch.cuda.max_memory_allocated() if on_gpu else _peak_of_process() - before
        ),
        "multiply_adds": count_multiply_adds(model, inputs),
        "device": torch.cuda.get_device_name() if on_gpu else _cpu(),
    }


def count_multiply_adds(model: nn.Module, inputs: list) -> float:
    """The mean over `inputs`, of matrix products and convolutions: all else is left out."""
    with FlopCounterMode(display=False) as counter:
        for x in inputs:
            model(x)
    return counter.get_total_flops() / 2 / len(inputs)


def _median_seconds(model: nn.Module, inputs: list, device: torch.device) -> float:
    for x in inputs[:_WARM_UP]:
        model(x)
    durations = []
    for x in inputs:
        start = _now(device)
        model(x)
        durations.append(_now(device) - start)
    return torch.tensor(durations).median().item()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_of_process() -> int:
    """Bytes that were resident at most."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where `getrusage` counts the process that started this one
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        return 1024 * int(peak[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu() -> str:
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
