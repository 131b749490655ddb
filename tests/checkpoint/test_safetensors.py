import json

import pytest
import torch

from detr_d2.checkpoint.safetensors import load_safetensors, save_safetensors
from detr_d2.errors import UserError

TENSORS = {
    "matrix": torch.arange(6.0).view(2, 3),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),  # what follows is not aligned
    "half": torch.tensor([0.5, -2], dtype=torch.float16),
    "double": torch.tensor(1 / 3, dtype=torch.float64),
    "bool": torch.tensor([True, False]),
    "count": torch.tensor(7),
    "nothing": torch.zeros(0, 4),
}


def assert_same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


def write(path, header, content=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + content)
    return str(path)


def test_bytes_by_hand(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "I16", "shape": [1, 2], "data_offsets": [1, 5]},
    }
    tensors = load_safetensors(write(tmp_path / "x", header, b"\x07\x01\x00\xff\xff"))
    assert_same(
        tensors,
        {"a": torch.tensor([7], dtype=torch.uint8), "b": torch.tensor([[1, -1]]).short()},
    )


def test_round_trip(tmp_path):
    save_safetensors(TENSORS, str(tmp_path / "x"))
    assert_same(load_safetensors(str(tmp_path / "x")), TENSORS)


def test_the_library_reads_and_writes_the_same(tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    save_safetensors(TENSORS, str(tmp_path / "ours"))
    theirs = library.load_file(tmp_path / "ours")
    assert_same(dict(sorted(theirs.items())), dict(sorted(TENSORS.items())))
    library.save_file({n: t.contiguous() for n, t in TENSORS.items()}, tmp_path / "theirs")
    ours = load_safetensors(str(tmp_path / "theirs"))
    assert_same(dict(sorted(ours.items())), dict(sorted(TENSORS.items())))


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


@pytest.mark.parametrize(
    "broken",
    [
        {"header": {"a": {**ENTRY, "data_offsets": [0, 3]}}},  # past the end of the file
        {"header": {"a": {**ENTRY, "data_offsets": [-1, 1]}}},
        {"header": {"a": {**ENTRY, "shape": [3]}}},
        {"header": {"a": {**ENTRY, "shape": [-1, -2]}}},
        {"header": {"a": {**ENTRY, "dtype": "F8"}}},
        {"header": {"a": {"dtype": "U8"}}},
        {"header": {"a": [1]}},
        {"header": b"[]"},
        {"header": b"{"},
        {"header": {"a": ENTRY}, "length": 2**40},
    ],
)
def test_broken_files_are_refused(tmp_path, broken):
    assert load_safetensors(write(tmp_path / "whole", {"a": ENTRY}, b"\0\1"))
    with pytest.raises(UserError, match="broken is not a whole safetensors file"):
        load_safetensors(write(tmp_path / "broken", content=b"\0\1", **broken))
