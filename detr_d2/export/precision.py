"""ONNX files of fewer bits, made of one of float32."""

from pathlib import Path
from typing import Any

import numpy as np

# Linear layers, of the transformer above all. A quantised convolution has one scale for all that it
# is given, which costs more than it saves.
_QUANTIZED = ["MatMul", "Gemm"]
_LEAST = 1024  # numbers of a table that is worth it


def store_in_half(path: Path) -> None:
    """Store the weights of an ONNX file in float16, in its place.

    Whoever runs it makes float32 of them once, when it opens the file: what is computed is float32,
    as on processors and in browsers it would be in any case.
    """
    import onnx

    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for table in graph.initializer:
        if table.data_type != onnx.TensorProto.FLOAT or np.prod(table.dims) < _LEAST:
            continue
        with np.errstate(over="ignore"):
            half = onnx.numpy_helper.to_array(table).astype(np.float16)
        if not np.isfinite(half).all():
            continue  # what is too large for float16 stays
        name, stored = table.name, f"{table.name}.float16"
        table.CopyFrom(onnx.numpy_helper.from_array(half, stored))
        to_float: dict[str, Any] = {"to": onnx.TensorProto.FLOAT}
        casts.append(onnx.helper.make_node("Cast", [stored], [name], **to_float))
    nodes = [*casts, *graph.node]  # in the order in which they are needed
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))


def quantize(path: Path) -> None:
    """Quantise an ONNX file in its place: weights once, activations anew for each picture."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Products with weights that have a sign overflow on x86 without VNNI.
    quantize_dynamic(
        path, path, op_types_to_quantize=_QUANTIZED, weight_type=QuantType.QUInt8, per_channel=True
    )


REDUCE = {"float16": store_in_half, "int8": quantize}
