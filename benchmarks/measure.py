"""Measure a work: all variants in turn, again and again, so that what disturbs hits them all."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from detr_d2.comparison.measuring import (
    OperationCounter,
    in_fresh_process,
    peak_on_cpu,
    peak_on_gpu,
)

from .clock import Clock, Phases, spread
from .settings import Settings
from .variants import OTHERS, Variant
from .works import FURTHER_WORKS, WORKS, Case, Work


class SavedCounter(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps for the backward pass, in `bytes`.

    Each storage counts once, and those of parameters and buffers not at all.
    """

    def __init__(self, model: nn.Module):
        super().__init__(self._pack, lambda tensor: tensor)
        self.own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
        self.storages: dict[int, int] = {}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.own:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


def works_of(settings: Settings) -> list[Callable[[], Work]]:
    """What makes the chosen works; those of inference once for each batch size."""
    works: list[Callable[[], Work]] = []
    known = {**WORKS, **FURTHER_WORKS}
    for kind in (known[name] for name in settings.works):
        batches = [(n,) for n in settings.batch_sizes] if kind.has_batches else [()]
        works += [partial(kind, settings, *arguments) for arguments in batches]
    return works


def measure_alone(make_work: Callable[[], Work]) -> list[dict]:
    """`measure` in a process of its own.

    Memory that earlier works have left changes the times of later ones by half: the C library gives
    large tensors back to the system, or keeps them, by what it has seen before.
    """
    return in_fresh_process(measure, make_work)


def measure(make_work: Callable[[], Work]) -> list[dict]:
    """Make a work, measure its chosen variants, and close it.

    Returns:
        Of each variant `work`, `title`, `variant`; of the time in seconds `median`,
        `lower_quartile`, `upper_quartile`, `min`, and `runs`; `phases`, median seconds by name;
        `speed_up` over the reference (`Work.baseline`); where there is a model `parameters` and
        `macs`; `saved_bytes` of a training step; `peak_bytes`; `apart`, how far the results are
        from the reference's; and what `Case.costs` gives.
    """
    work = make_work()
    torch.set_num_threads(work.threads)
    try:
        return _measure(work)
    finally:
        work.close()


def _measure(work: Work) -> list[dict]:
    cases: dict[Variant, Case] = {}
    rows: dict[Variant, dict] = {}
    expected = None
    for variant in work.variants:
        case = cases[variant] = work.prepare(variant)
        row = rows[variant] = {"work": work.name, "title": work.title, "variant": str(variant)}
        result = examine(work, variant, case, row)
        if variant == work.baseline:
            expected = result
        elif expected is not None and variant.model not in OTHERS:
            row["apart"] = work.compare(result, expected)
        del result
    repeat(work, cases, rows)
    add_peaks(work, cases, rows)
    for variant, row in rows.items():
        row.update(cases[variant].costs())
        if expected is not None:
            row["speed_up"] = rows[work.baseline]["median"] / row["median"]
    return list(rows.values())


def examine(work: Work, variant: Variant, case: Case, row: dict):
    """The first run, which is not timed: it warms up, is counted, and gives what is compared."""
    if case.model is None:
        return case.examine()
    row["parameters"] = sum(p.numel() for p in case.model.parameters())
    if variant.compiled:  # no counter sees into a compiled graph
        return case.examine()
    operations, saved = OperationCounter(), SavedCounter(case.model)
    with operations, saved:
        result = case.examine()
    row["macs"] = operations.macs
    if work.is_training:
        row["saved_bytes"] = saved.bytes
    return result


def repeat(work: Work, cases: dict[Variant, Case], rows: dict[Variant, dict]) -> None:
    """Time each case once a round; adds times and phases to the rows."""
    settings = work.settings
    clock = Clock(work.device or settings.device)
    phases = {variant: Phases(clock, case.phases) for variant, case in cases.items()}
    seconds: dict[Variant, list[float]] = {variant: [] for variant in cases}
    seconds_of_phases: dict[Variant, list[dict]] = {variant: [] for variant in cases}
    until = time.monotonic() + settings.seconds
    for done in range(settings.most_rounds):
        if done >= settings.least_rounds and time.monotonic() > until:
            break
        for variant, case in cases.items():
            whole = clock.time(case.run)
            seconds[variant].append(whole)
            seconds_of_phases[variant].append(phases[variant].take(whole))
    for variant, row in rows.items():
        row.update(spread(seconds[variant]))
        if cases[variant].phases:
            rounds = seconds_of_phases[variant]
            row["phases"] = {
                name: float(np.median([x[name] for x in rounds])) for name in rounds[0]
            }


def add_peaks(work: Work, cases: dict[Variant, Case], rows: dict[Variant, dict]) -> None:
    """Add `peak_bytes` to the rows: memory of one run, where it can be measured."""
    settings = work.settings
    for variant, case in cases.items():
        if case.model is None:
            continue
        if settings.device == "cuda":
            rows[variant]["peak_bytes"] = peak_on_gpu(case.run)
        elif work.has_peak and settings.peak_on_cpu:
            rows[variant]["peak_bytes"] = in_fresh_process(peak_of, work, variant)


def peak_of(work: Work, variant: Variant) -> int:
    """Bytes of one run in this process, which has run nothing else yet."""
    torch.set_num_threads(work.threads)
    case = work.prepare(variant)
    case.warm_up()
    return peak_on_cpu(case.run)
