"""What every row of the table has."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ..settings import Settings
from ..variants import PLAIN, Variant


@dataclass
class Case:
    """One variant of one work, ready to be run.

    Attributes:
        run: what is timed.
        examine: runs once before, untimed; gives what is compared with the reference's.
        model: where there is one.
        phases: modules by the name of the phase that they are.
        warm_up: a small run, before peak memory is taken in a fresh process.
        costs: asked when all is timed, for the row: what it takes besides.
    """

    run: Callable[[], object]
    examine: Callable[[], object]
    model: nn.Module | None = None
    phases: dict[str, list[nn.Module]] = field(default_factory=dict)
    warm_up: Callable[[], object] = lambda: None
    costs: Callable[[], dict[str, float]] = dict


class Work:
    """
    Attributes:
        name: on the command line.
        device: that it runs on; None: that of the settings.
        has_batches: the constructor takes a batch size.
        has_peak: the CPU's peak memory is taken.
        is_training: what autograd saves is counted.
        baseline: the variant that the others are compared with.
    """

    name: str
    device: str | None = None
    has_batches = False
    has_peak = False
    is_training = False
    baseline = Variant("reference")

    def __init__(self, settings: Settings):
        self.settings = settings

    @property
    def threads(self) -> int:
        """Of PyTorch on the CPU."""
        return self.settings.threads

    @property
    def title(self) -> str:
        """The heading of its table."""
        raise NotImplementedError

    @property
    def variants(self) -> list[Variant]:
        """Those that are measured, in this order."""
        return [variant for variant in self.settings.variants if self.takes_part(variant)]

    def takes_part(self, variant: Variant) -> bool:
        """Most works are of float32 and have nothing to compare Panoptic FPN by."""
        return variant in PLAIN

    def prepare(self, variant: Variant) -> Case:
        """The variant, ready to be run."""
        raise NotImplementedError

    def compare(self, result, reference) -> dict[str, float]:
        """How far two results of `Case.examine` lie apart, by what is compared."""
        raise NotImplementedError

    def close(self) -> None:
        """Called when all is measured."""


def phases_of(model: nn.Module, variant: Variant) -> dict[str, list[nn.Module]]:
    """Hooks would break compiled modules apart, so these have no phases."""
    if variant.compiled:
        return {}
    parts = {
        "backbone": ("backbone",),
        "transformer": ("transformer",),
        "mask head": ("bbox_attention", "mask_head"),
        "FPN's heads": ("proposal_generator", "roi_heads", "sem_seg_head"),
    }
    found = {
        phase: [getattr(model, name) for name in names if hasattr(model, name)]
        for phase, names in parts.items()
    }
    return {phase: modules for phase, modules in found.items() if modules}
