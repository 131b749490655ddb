import os
import random
import signal
import subprocess
import sys
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.data.broken_images import BrokenImages
from detr_d2.data.training_loader import (
    MappedImages,
    Order,
    TrainingBatches,
    build_training_loader,
    chance_of,
    dead_readers_named,
)
from detr_d2.errors import UserError

RAISE = BrokenImages("raise", 0.0, "")


def draw() -> tuple:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_chance_follows_from_the_numbers_and_goes_on_behind():
    with chance_of(1, 2, 3):
        first = draw()
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    with chance_of(1, 2, 3):
        assert draw() == first
    with chance_of(1, 3, 2):
        assert all(a != b for a, b in zip(draw(), first))
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()
    assert before[0] == after[0]
    assert (before[1] == after[1]).all()
    assert before[2].equal(after[2])


class Endless:
    """Numbers of 10 images, over and over."""

    def __iter__(self):
        number = 0
        while True:
            yield number % 10
            number += 1


def is_wide(number: int) -> bool:
    return number in (0, 3, 4)


def batches(total, iteration=0):
    return list(islice(TrainingBatches(Endless(), Order(3, 1, 2), 0, is_wide, iteration), total))


def test_batches_are_of_one_shape_and_leave_no_image_out():
    seen = batches(40)
    for batch in seen:
        assert len({is_wide(number) for _, number in batch}) == 1
    places = sorted(place for batch in seen for place, _ in batch)
    # The last image of the other shape waits for a second one.
    assert places[:79] == list(range(79))


@pytest.mark.parametrize("passed", [0, 1, 7, 23])
def test_batches_go_on_as_if_they_had_not_stopped(passed):
    assert batches(10, passed) == batches(40)[passed : passed + 10]


def test_an_order_goes_on_with_other_processes():
    order = Order(seed=1, processes=1, batch_size=8)
    assert order.resumed(5, 1, 8) is order
    other = order.resumed(5, 2, 6)
    assert other == Order(1, 2, 6, before=((1, 8, 5),))
    assert other.resumed(9, 2, 6) is other
    again = other.resumed(9, 1, 6)
    assert again == Order(1, 1, 6, before=((1, 8, 5), (2, 6, 4)))
    assert (again.first_iteration, again.images_before) == (9, 64)


class AllNumbers:
    def __iter__(self):
        return count()


LEGS = [(3, 9, 4), (2, 2, 7), (4, 4, 5), (3, 15, 3), (1, 2, 6), (2, 6, 9)]


@pytest.mark.parametrize("is_wide", [is_wide, lambda n: n % 7 == 0, lambda n: n > 50, None])
def test_whatever_the_processes_were_each_image_of_the_order_comes_once(is_wide):
    seen = []
    for leg, (processes, batch_size, steps) in enumerate(LEGS):
        order = Order(3, processes, batch_size, tuple(LEGS[:leg]))
        assert len(seen) == order.images_before
        for rank in range(processes):
            all_batches = TrainingBatches(AllNumbers(), order, rank, is_wide, order.first_iteration)
            for batch in islice(all_batches, steps):
                seen += [number for _, number in batch]
        left_out = set(range(max(seen))) - set(seen)
        # Of each process, those of each shape that are too few for a batch.
        may_wait = processes * (batch_size // processes - 1) * (1 if is_wide is None else 2)
        assert len(set(seen)) == len(seen)
        assert len(left_out) <= may_wait


def mapper(image: dict) -> tuple:
    return image["file_name"], draw()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_with_the_same_chance(num_workers):
    dicts = [{"file_name": n, "width": 2 + is_wide(n), "height": 2} for n in range(10)]

    def load(count, iteration, num_workers):
        loader = build_training_loader(
            dicts,
            mapper,
            Endless(),
            Order(3, 1, 2, before=((1, 5, 1),)),
            broken_images=RAISE,
            iteration=iteration,
            group_by_shape=True,
            num_workers=num_workers,
        )
        return list(islice(loader, count))

    whole = load(6, 1, 0)
    assert whole[0][0][0] == 0  # it had waited for another of its shape
    assert len({value for batch in whole for _, value in batch}) == 12  # no draw comes twice
    state = torch.get_rng_state()
    assert load(3, 4, num_workers) == whole[3:]
    assert torch.get_rng_state().equal(state)


def endless_loader(mapper, num_workers):
    return build_training_loader(
        [{"file_name": str(n), "width": 3, "height": 2} for n in range(10)],
        mapper,
        Endless(),
        Order(3, 1, 2),
        broken_images=RAISE,
        iteration=0,
        group_by_shape=True,
        num_workers=num_workers,
    )


LEFT_AT_THE_END = """
from tests.data.test_training_loader import endless_loader, mapper

images = iter(endless_loader(mapper, num_workers=2))
next(images)
raise ValueError("an error whose traceback holds the images")
"""


def test_a_program_ends_whose_loader_is_still_held():
    command = [sys.executable, "-W", "ignore", "-c", LEFT_AT_THE_END]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("traceback holds the images")


def dying_mapper(image: dict):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_reads_and_dies_is_named():
    loader = endless_loader(dying_mapper, num_workers=1)
    with pytest.raises(UserError, match=r"DataLoader worker.*NUM_WORKERS"), dead_readers_named():
        next(iter(loader))


def test_shapes_of_images_come_from_their_files_where_dicts_have_none(tmp_path):
    dicts = []
    for name, size in (("wide", (6, 4)), ("tall", (4, 6)), ("square", (5, 5))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        dicts.append({"file_name": str(tmp_path / f"{name}.png")})
    images = MappedImages(dicts, mapper, Order(0, 1, 1), RAISE)
    assert [images.is_wide(number) for number in range(3)] == [True, False, False]


def test_an_image_that_the_mapper_does_without_is_replaced():
    # Those that are tall are no replacement for those that are wide.
    dicts = [{"file_name": str(n), "width": 3, "height": 2 + 2 * (n > 3)} for n in range(8)]

    def choosy(image):
        return image["file_name"] if image["file_name"] in "23456" else None

    images = MappedImages(dicts, choosy, Order(0, 1, 1), RAISE)
    assert images[0, 2] == "2"
    drawn = [images[place, 0] for place in range(20)]
    assert set(drawn) == {"2", "3"}
    assert drawn == [images[place, 0] for place in range(20)]
    nothing = MappedImages(dicts, lambda _: None, Order(0, 1, 1), RAISE)
    assert "None for 100 images" in str(nothing[0, 0])
