"""Operations that PyTorch's ONNX exporter lacks, or has for tensors of known sizes alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.onnx import symbolic_helper, symbolic_opset10

OPSET = 17


@contextmanager
def symbolics() -> Iterator[None]:
    """Within, the exporter knows them."""
    known: dict[str, Callable] = {
        "group_norm": _group_norm,
        "isneginf": _isneginf,
        "argsort": _argsort,
        "div": _div,
    }
    for name, function in known.items():
        torch.onnx.register_custom_op_symbolic(f"aten::{name}", function, OPSET)
    try:
        yield
    finally:
        for name in known:
            torch.onnx.unregister_custom_op_symbolic(f"aten::{name}", OPSET)


def _constant(g, value):
    return g.op("Constant", value_t=torch.tensor(value))


def _group_norm(g, x, groups, weight, bias, eps, cudnn):
    """Of (B, C, H, W), all unknown: each group of channels is one of an instance norm's."""
    groups = symbolic_helper._get_const(groups, "i", "groups")
    eps = symbolic_helper._get_const(eps, "f", "eps")
    grouped = g.op("Reshape", x, _constant(g, [0, groups, -1]))
    ones, zeros = _constant(g, [1.0] * groups), _constant(g, [0.0] * groups)
    grouped = g.op("InstanceNormalization", grouped, ones, zeros, epsilon_f=eps)
    normalised = g.op("Reshape", grouped, g.op("Shape", x))
    weight, bias = (g.op("Unsqueeze", p, _constant(g, [1, 2])) for p in (weight, bias))
    return g.op("Add", g.op("Mul", normalised, weight), bias)


def _div(g, a, b, *rounding):
    """The exporter divides what it knows no dtype of as float32, in which the weights of a resize
    are not exact; that it is float64, a cast says (`divided`)."""
    node = a.node()
    double = int(torch.onnx.TensorProtoDataType.DOUBLE)  # type: ignore[call-overload]  # a number
    if rounding or node.kind() != "onnx::Cast" or node.i("to") != double:
        return symbolic_opset10.div(g, a, b, *rounding)
    for value in (a, b):
        value.setType(value.type().with_dtype(torch.float64))
    quotient = g.op("Div", a, b)
    quotient.setType(quotient.type().with_dtype(torch.float64))
    return quotient


def _isneginf(g, x):
    return g.op("Equal", x, _constant(g, float("-inf")))


def _argsort(g, x, stable, dim, descending):
    """TopK of all; of equal ones it takes the first first, so it is stable."""
    axis = symbolic_helper._get_const(dim, "i", "dim")
    largest = int(symbolic_helper._get_const(descending, "b", "descending"))
    length = g.op("Gather", g.op("Shape", x), _constant(g, [axis]), axis_i=0)
    numbers = g.op("Cast", x, to_i=torch.onnx.TensorProtoDataType.FLOAT)
    options = {"axis_i": axis, "largest_i": largest, "sorted_i": 1}
    return g.op("TopK", numbers, length, outputs=2, **options)[1]
