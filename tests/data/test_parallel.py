import pytest

from detr_d2.data.parallel import available_processors, parallel_map
from detr_d2.errors import UserError


def square_unless_five(number):
    if number == 5:
        raise UserError("five is not allowed")
    return number**2


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order(workers):
    items = [*range(6, 40)]
    assert parallel_map(square_unless_five, items, workers, "") == [n**2 for n in items]
    assert parallel_map(square_unless_five, [], workers, "") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_input_comes_through_as_it_is(workers):
    with pytest.raises(UserError, match=r"^five is not allowed$"):
        parallel_map(square_unless_five, [*range(40)], workers, "")


def test_no_workers_are_refused():
    with pytest.raises(UserError, match="--workers 0 cannot do any work"):
        parallel_map(square_unless_five, [1], 0, "")


def test_there_is_a_processor():
    assert available_processors() >= 1
