"""Numbers out of pickles, without running what a pickle asks to run.

A pickle is a program: it names functions and has them called. Here, a name is looked up in a
short list of stand-ins that can only make numbers, and any other name is refused.
"""

import argparse
import codecs
import pickle
import re
from collections import OrderedDict
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from ..errors import UserError

_NUMBER_TYPE = re.compile(r"[biufc]\d{1,2}|\?")


class _DType:
    """Stands in for numpy.dtype; knows numbers only, no objects."""

    def __init__(self, name: str, *_):
        if not isinstance(name, str) or not _NUMBER_TYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"arrays of type {name!r}")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        byte_order = state[1]
        if byte_order in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(byte_order)


class _Array:
    """Stands in for the empty numpy array that is filled by `__setstate__`."""

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, content = state
        self.numpy = _array(content, dtype, shape, "F" if is_fortran else "C")


def _array(
    content: bytes | str, dtype: _DType, shape: tuple, order: Literal["F", "C"]
) -> np.ndarray:
    if isinstance(content, str):  # Python 2 wrote bytes as strings
        content = content.encode("latin1")
    array = np.frombuffer(bytearray(content), dtype.numpy).reshape(shape, order=order)
    return array.astype(dtype.numpy.newbyteorder("="), copy=False)


def _ndarray(*_):
    # Called in the real class, this could lay an array over any memory.
    raise pickle.UnpicklingError("a numpy array that is not plain")


def _reconstruct(*_) -> _Array:
    return _Array()


def _frombuffer(content, dtype: _DType, shape: tuple, order: Literal["F", "C"]) -> np.ndarray:
    return _array(bytes(content), dtype, shape, order)


def _scalar(dtype: _DType, content: bytes | str) -> int | float:
    return _array(content, dtype, (), "C").item()


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes as latin1 text in old protocols; other codecs have no use here.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r}")
    return codecs.latin_1_encode(text)[0]


def _no_bytes() -> bytes:
    return b""  # old protocols have a name for it


_NUMPY = {
    f"{module}.{name}": stand_in
    for core in ("numpy.core", "numpy._core")
    for module, name, stand_in in (
        (f"{core}.multiarray", "_reconstruct", _reconstruct),
        (f"{core}.multiarray", "scalar", _scalar),
        (f"{core}.numeric", "_frombuffer", _frombuffer),
    )
} | {"numpy.ndarray": _ndarray, "numpy.dtype": _DType}
_ALLOWED = _NUMPY | {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
}


class _NumbersUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_numbers(file: BinaryIO, path: str) -> Any:
    """Unpickle dicts, lists, text, numbers and numpy arrays.

    Args:
        path: names the file in messages.

    Raises:
        UserError: where the pickle holds anything else, or is no pickle.
    """
    with _refused(path):
        return _unwrap(_NumbersUnpickler(file, encoding="latin1").load())


def load_torch(path: str, mmap: bool = False) -> Any:
    """`torch.load`, of tensors, containers, numbers and argparse's Namespace.

    Args:
        mmap: tensors are not read before they are looked at.

    Raises:
        UserError: where the file holds anything else, or is not PyTorch's.
    """
    # The classes that the stand-ins make are named too: PyTorch fills none that is not.
    safe = [(stand_in, name) for name, stand_in in _NUMPY.items()]
    with _refused(path), torch.serialization.safe_globals([*safe, _Array, argparse.Namespace]):
        return _unwrap(torch.load(path, map_location="cpu", weights_only=True, mmap=mmap))


@contextmanager
def _refused(path: str):
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a broken or hostile file can raise anything in the unpickler
        raise UserError(
            f"{path} was not loaded: it is damaged, or holds more than weights "
            f"({_name_of_refused(error)}), which is never run here: get the file from its source "
            "again, or save its weights alone."
        ) from error


def _name_of_refused(error: Exception) -> str:
    text = str(error)
    found = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", text)
    return found.group(1) if found else text.splitlines()[0][:120] if text else repr(error)


def _unwrap(value: Any) -> Any:
    """The arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        return value.numpy
    if isinstance(value, dict):
        return {key: _unwrap(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_unwrap(item) for item in value])
    return value
