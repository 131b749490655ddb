"""The same work on many files, on several processes, with a progress bar."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from tqdm import tqdm

from ..errors import UserError

_CHUNK = 8  # items that are sent to a process together


def available_processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(function: Callable, items: list, workers: int, title: str) -> list:
    """`[function(item) for item in items]`, whatever the number of workers.

    Args:
        function: of a module, so that another process can find it.
        workers: processes; 1 does the work in this one.
        title: stands before the progress bar.

    Raises:
        UserError: where there is no worker.
        Whatever `function` raises for the first item that it fails on.
    """
    if workers < 1:
        raise UserError(f"--workers {workers} cannot do any work: give 1 or more.")
    if workers == 1:
        return list(tqdm(map(function, items), title, len(items)))
    with ProcessPoolExecutor(workers) as pool:
        try:
            results = pool.map(function, items, chunksize=_CHUNK)
            return list(tqdm(results, title, len(items)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
