"""Files are data: what they ask to run is refused, and nothing of it runs."""

import argparse
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from detr_d2.checkpoint import read_checkpoint
from detr_d2.checkpoint.pickles import load_torch, read_numbers
from detr_d2.errors import UserError


class Hostile:
    """An object that has a function called when it is read."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def mkdir(path):
    return Hostile(os.mkdir, str(path))


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


def write_old_torch(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numbers(protocol):
    content = OrderedDict(
        matrix=np.arange(6, dtype=np.float32).reshape(2, 3),
        columns_first=np.arange(6, dtype=np.float64).reshape(2, 3).T,
        big_endian=np.arange(3, dtype=">i4"),
        nothing=np.zeros((0, 2), np.float16),
        bools=np.array([True, False]),
        scalar=np.float32(0.5),
        text=["Detectron2", None, (1, 2)],
    )
    result = read_numbers(io.BytesIO(pickle.dumps(content, protocol)), "a file")
    assert result.keys() == content.keys()
    for name in ("matrix", "columns_first", "big_endian", "nothing", "bools"):
        assert result[name].dtype == content[name].dtype.newbyteorder("=")
        np.testing.assert_array_equal(result[name], content[name])
        torch.from_numpy(result[name])
    assert (result["scalar"], result["text"]) == (0.5, content["text"])


def test_python_2_arrays():
    """There, bytes are strings (opcode U)."""
    array = np.array([1.5, -2.0], np.float32)
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08%btb."
    ) % array.tobytes()
    np.testing.assert_array_equal(read_numbers(io.BytesIO(content), "a file"), array)


@pytest.mark.parametrize("write", [write_pickle, torch.save, write_old_torch])
@pytest.mark.parametrize("name", ["model.pth", "model.pkl", "pytorch_model.bin"])
def test_hostile_files_are_refused(tmp_path, name, write):
    proof = tmp_path / "it_ran"
    content = {"model": {"layer1.0.conv1.weight": torch.zeros(1)}, "args": mkdir(proof)}
    if write is write_pickle:
        content["model"] = {}
    write(content, tmp_path / name)
    with pytest.raises(UserError, match=r"mkdir\), which is never run here") as error:
        read_checkpoint(str(tmp_path / name))
    assert "\n" not in str(error.value)
    assert not proof.exists()

    pickle.loads(pickle.dumps(mkdir(proof)))
    assert proof.exists()  # it would have run


@pytest.mark.parametrize(
    "content",
    [
        Hostile(eval, "1"),
        Hostile(getattr, {}, "keys"),
        Hostile(np.ndarray, (1,), "O", b"\1" * 8),  # a pointer to anywhere
        Hostile(np.dtype, "O"),
        Hostile(np.load, "x.npy"),
        np.array([{}], dtype=object),
        Path(),
    ],
    ids=lambda content: getattr(content, "call", (type(content),))[0].__name__,
)
def test_other_than_numbers_is_refused(content):
    with pytest.raises(UserError):
        read_numbers(io.BytesIO(pickle.dumps(content)), "a file")


def test_other_codecs_are_refused():
    bomb = b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\3\0\0\0hex\x86R."
    with pytest.raises(UserError, match="hex"):
        read_numbers(io.BytesIO(bomb), "a file")


@pytest.mark.parametrize("write", [torch.save, write_old_torch])
def test_torch_files(tmp_path, write):
    """What the official code saves: its arguments beside the weights; and numpy's numbers."""
    content = {
        "model": OrderedDict(weight=torch.rand(2)),
        "args": argparse.Namespace(lr=1e-4, dilation=True, output_dir=""),
        "best": np.float64(0.25),
        "history": [np.arange(3)],
        "size": torch.Size([2, 3]),
    }
    write(content, tmp_path / "file.pth")
    result = load_torch(str(tmp_path / "file.pth"))
    assert torch.equal(result["model"]["weight"], content["model"]["weight"])
    assert result["args"] == content["args"]
    assert result["best"] == 0.25
    np.testing.assert_array_equal(result["history"][0], [0, 1, 2])
    assert result["size"] == (2, 3)


@pytest.mark.parametrize("write", [torch.save, write_old_torch, write_pickle])
def test_half_a_file(tmp_path, write):
    write({"weight": np.zeros(100)}, tmp_path / "file.pth")
    whole = (tmp_path / "file.pth").read_bytes()
    (tmp_path / "file.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"file\.pth .* damaged"):
        read_checkpoint(str(tmp_path / "file.pth"))


def test_no_weights_at_all(tmp_path):
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match="no file of weights"):
        read_checkpoint(str(tmp_path / "page.pth"))
    write_pickle([1, 2], tmp_path / "list.pkl")
    with pytest.raises(UserError, match="holds a list"):
        read_checkpoint(str(tmp_path / "list.pkl"))
    write_pickle({"model": {}}, tmp_path / "empty.pkl")
    with pytest.raises(UserError, match="holds no weights"):
        read_checkpoint(str(tmp_path / "empty.pkl"))
    write_pickle({"epoch": 3}, tmp_path / "numbers.pkl")
    with pytest.raises(UserError, match="'epoch' it holds a int"):
        read_checkpoint(str(tmp_path / "numbers.pkl"))
