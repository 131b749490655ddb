"""What a model costs at inference: parameters, multiply-adds, time and memory."""

import platform
from collections.abc import Sequence
from itertools import islice

import torch
from torch.utils.benchmark import Timer

from ..checkpoint import Checkpointer
from ..engine import Trainer, setup_cfg
from .measuring import OperationCounter, in_fresh_process, peak_on_cpu, peak_on_gpu

_IMAGES = 20  # of the test dataset, one at a time


def measure_cost(config_file: str, overrides: Sequence[str], weights: str) -> dict:
    """Measure inference on the first images of the test dataset, one at a time.

    It runs in a process of its own, which alone tells its peak of memory; that knows the datasets
    which the configuration registers, and no others.

    Returns:
        * parameters: how many, frozen ones among them.
        * multiply_adds: of one image, the mean. fvcore and most papers call it FLOPs.
        * seconds: of one image, the median.
        * peak_bytes: of memory at most, weights included.
        * device: its name, and the number of threads on a CPU.
    """
    return in_fresh_process(_measure, config_file, tuple(overrides), weights)


@torch.no_grad()
def _measure(config_file: str, overrides: tuple[str, ...], weights: str) -> dict:
    cfg = setup_cfg(config_file, overrides)
    inputs = list(islice(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]), _IMAGES))
    # Nothing is trained, and PyTorch's counter follows whatever could be.
    model = Trainer.build_model(cfg).eval().requires_grad_(False)
    Checkpointer.from_config(cfg, model).load(weights)
    own = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))
    on_cpu = cfg.MODEL.DEVICE == "cpu"

    def run() -> None:
        for x in inputs:
            model(x)

    peak = (peak_on_cpu if on_cpu else peak_on_gpu)(run)  # the first pass, while memory is fresh
    threads = torch.get_num_threads()
    timers = [
        Timer("model(x)", globals={"model": model, "x": x}, num_threads=threads) for x in inputs
    ]
    seconds = torch.tensor([timer.timeit(1).mean for timer in timers])
    with OperationCounter() as operations:
        run()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": operations.macs / len(inputs),
        "seconds": seconds.median().item(),
        "peak_bytes": own + peak,
        "device": _cpu() if on_cpu else torch.cuda.get_device_name(),
    }


def _cpu() -> str:
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
