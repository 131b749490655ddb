from argparse import ArgumentTypeError

import pytest

from detr_d2.engine.sources import chunks
from detr_d2.engine.tools import positive_int


def test_positive_int():
    assert positive_int("3") == 3
    for text in ("0", "-1"):
        with pytest.raises(ArgumentTypeError, match=f"{text} is less than 1"):
            positive_int(text)


@pytest.mark.parametrize(
    ("size", "expected"), [(1, [[1], [2], [3]]), (2, [[1, 2], [3]]), (5, [[1, 2, 3]])]
)
def test_chunks(size, expected):
    assert list(chunks([1, 2, 3], size)) == expected
    assert list(chunks([], size)) == []
