"""Training images in an order that can be gone on with: resumed, it is as if never interrupted."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError
from .broken_images import READING_ERRORS, BrokenImages
from .files import is_remote
from .images import read_image_size

# What schedulers send some time before they take a machine, often to all of its processes; the last
# is submitit's.
PREEMPTION = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_TRIES = 100  # images, until one is found that a mapper takes


Leg = tuple[int, int, int]  # processes, batch_size, and for how many steps that was so


@dataclass(frozen=True)
class Order:
    """What decides which images a step is trained on, and what chance does to them.

    Attributes:
        seed: of all random numbers.
        processes: that share the images.
        batch_size: images of a step, on all processes together.
        before: what both were at first and later.
    """

    seed: int
    processes: int
    batch_size: int
    before: tuple[Leg, ...] = ()

    @property
    def first_iteration(self) -> int:
        """With which `processes` and `batch_size` are as they are."""
        return sum(steps for _, _, steps in self.before)

    @property
    def images_before(self) -> int:
        """That were seen until then."""
        return sum(batch_size * steps for _, batch_size, steps in self.before)

    def resumed(self, iteration: int, processes: int, batch_size: int) -> "Order":
        """The order to go on with at a step. With other processes or batches it goes on with the
        images that were not seen."""
        if (processes, batch_size) == (self.processes, self.batch_size):
            return self
        last = (self.processes, self.batch_size, iteration - self.first_iteration)
        return Order(self.seed, processes, batch_size, (*self.before, last))


@contextmanager
def chance_of(*numbers: int) -> Iterator[None]:
    """Inside, the random numbers of Python, NumPy and PyTorch's CPU follow from these numbers, each
    at least 0; behind, they go on as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    fix_chance(*numbers)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def fix_chance(*numbers: int) -> None:
    """From here on they do."""
    words = [int(word) for word in np.random.SeedSequence(numbers).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])


class TrainingBatches(Sampler):
    """The images of each step of this process: lists of (place in the order, number of the image).

    Images of a batch are all wide or all tall where `is_wide` is given, so that little is padded.
    Which ones they are is known without reading them: what was trained on is passed over quickly.
    """

    def __init__(
        self,
        sampler: Sampler,
        order: Order,
        rank: int,
        is_wide: Callable[[int], bool] | None,
        iteration: int = 0,
    ):
        """
        Args:
            sampler: of all processes, without an end.
            rank: of this process.
            is_wide: whether an image is, from its number.
            iteration: the step to begin with.
        """
        self.sampler, self.order, self.rank, self.is_wide = sampler, order, rank, is_wide
        self.iteration = iteration

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.order
        batches = self._batches(order.before, self.rank, order.processes, order.batch_size)
        for batch in islice(batches, self.iteration - order.first_iteration, None):
            # Chance follows from the place, and goes on where it was.
            yield [(order.images_before + k // order.processes, number) for k, number in batch]

    def _batches(
        self, before: Sequence[Leg], rank: int, processes: int, batch_size: int
    ) -> Iterator[list[tuple[int, int]]]:
        """What a process is given, as (place among the images that come behind `before`, number).

        Every `processes`th image is its own.
        """
        begun: dict[bool, list] = {False: [], True: []}
        for place, number in islice(enumerate(self._images(before)), rank, None, processes):
            kind = self.is_wide is not None and self.is_wide(number)
            begun[kind].append((place, number))
            if len(begun[kind]) == batch_size // processes:
                yield begun[kind]
                begun[kind] = []

    def _images(self, before: Sequence[Leg]) -> Iterator[int]:
        """Numbers of the images of all processes, without those that were seen before.

        These are not just the first ones: an image may have waited for others of its shape.
        """
        if not before:
            return iter(self.sampler)
        *earlier, (processes, batch_size, steps) = before
        seen = bytearray()  # 1 at the places of those that were
        for rank in range(processes):
            for batch in islice(self._batches(earlier, rank, processes, batch_size), steps):
                for place, _ in batch:
                    seen.extend(bytes(max(0, place + 1 - len(seen))))
                    seen[place] = 1
        numbers = self._images(earlier)
        return chain((number for was, number in zip(seen, numbers) if not was), numbers)


class MappedImages(Dataset):
    """Dicts of a dataset through a mapper, whose chance follows from an image's place alone."""

    def __init__(
        self,
        dicts: list[dict],
        mapper: Callable[[dict], dict],
        order: Order,
        broken_images: BrokenImages,
    ):
        # Detectron2 keeps a list serialised, so that no process copies it.
        self.dicts = DatasetFromList(dicts, copy=False)
        self.mapper, self.order, self.rank = mapper, order, comm.get_rank()
        self.broken_images = broken_images

    def __getitem__(self, which: tuple[int, int]) -> dict | UserError:
        """(place in the order of this process, number of the image) -> what the mapper gives.

        An error of the user's is given, not raised: raised, it would leave a process that reads as
        a traceback.
        """
        try:
            return self._mapped(*which)
        except UserError as error:
            return error

    def _mapped(self, place: int, number: int) -> dict:
        with chance_of(self.order.seed, self.rank, place):
            for _ in range(_TRIES):
                mapped = self._mapped_or_broken(number)
                if mapped is not None:
                    return mapped
                # As Detectron2 has it, a mapper may do without an image; another one is drawn.
                number = self._another(number)
        raise UserError(
            f"The mapper gave None for {_TRIES} images one after the other: let it take more of "
            "them."
        )

    def _mapped_or_broken(self, number: int) -> dict | None:
        try:
            return self.mapper(self.dicts[number])
        except READING_ERRORS as error:
            self.broken_images.meet(self.dicts[number], error, len(self))
            return None

    def __len__(self) -> int:
        return len(self.dicts)

    def _another(self, number: int) -> int:
        """One of the same shape, for it comes into the same batch."""
        for _ in range(_TRIES):
            other = random.randrange(len(self.dicts))
            if self.is_wide(other) == self.is_wide(number):
                return other
        return number

    def is_wide(self, number: int) -> bool:
        """From the dict, or else from the header of the file; of one that would be downloaded for
        it, it is not known, and False."""
        image = self.dicts[number]
        if "width" in image and "height" in image:
            return image["width"] > image["height"]
        if is_remote(image["file_name"]):
            return False
        height, width = read_image_size(image["file_name"])
        return width > height


def leave_signals_to_the_trainer(_) -> None:
    """A process that reads goes on reading: it ends with the trainer, not before its checkpoint.

    Only the trainer's own signal ends it, as Python sends one to those that are left at its end.
    Where there is no `sigwaitinfo` (macOS), any signal does, as without this.
    """
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTION)
        threading.Thread(target=_end_with_the_trainer, daemon=True).start()


def _end_with_the_trainer() -> None:
    while signal.sigwaitinfo(PREEMPTION).si_pid != os.getppid():
        pass
    os._exit(0)


def _batch_or_error(mapped: list) -> list[dict] | UserError:
    return next((x for x in mapped if isinstance(x, UserError)), mapped)


class TrainingLoader(DataLoader):
    """Its batches; a `UserError` of a process that reads is raised here, as it was."""

    def __iter__(self) -> Iterator[list[dict]]:  # type: ignore[override]  # of PyTorch's own class
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def dead_readers_named() -> Iterator[None]:
    """PyTorch's error, which comes wherever the program is, as a sentence."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"A process that reads images has ended ({' '.join(str(error).split())}). The system "
            "ends one where memory runs out: lower DATALOADER.NUM_WORKERS, or see its log."
        ) from error


def build_training_loader(
    dicts: list[dict],
    mapper: Callable[[dict], dict],
    sampler: Sampler,
    order: Order,
    *,
    broken_images: BrokenImages,
    iteration: int,
    group_by_shape: bool,
    num_workers: int,
) -> DataLoader:
    """
    Args:
        sampler: of all processes, without an end.
        broken_images: what is done with them.
        iteration: the step to begin with.
        group_by_shape: no batch has both wide and tall images.
        num_workers: processes that read; 0 reads in this one.

    Returns:
        Lists of `batch_size / processes` dicts that the mapper made.
    """
    images = MappedImages(dicts, mapper, order, broken_images)
    batches = TrainingBatches(
        sampler,
        order,
        comm.get_rank(),
        cache(images.is_wide) if group_by_shape else None,
        iteration,
    )
    return TrainingLoader(
        images,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_batch_or_error,
        worker_init_fn=leave_signals_to_the_trainer,
        # What a loader draws for its workers is none of the model's random numbers.
        generator=torch.Generator(),
    )
