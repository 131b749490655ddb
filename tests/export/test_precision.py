"""Files of fewer bits give nearly what they gave."""

import numpy as np
import pytest

from detr_d2.errors import UserError
from detr_d2.export import Options
from detr_d2.export.precision import quantize, store_in_half

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture
def linear(tmp_path):
    """A file of two linear layers, and their weights: the first is too large for float16."""
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    weights = {
        "large": np.random.randn(40, 60).astype(np.float32) * 1e5,
        "ordinary": np.random.randn(60, 50).astype(np.float32),
        "few": np.random.randn(50).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["y"]),
        helper.make_node("MatMul", ["y", "ordinary"], ["z"]),
        helper.make_node("Add", ["z", "few"], ["out"]),
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind.FLOAT, [3, size])]
        for name, size in (("x", 40), ("out", 50))
    )
    tables = [numpy_helper.from_array(table, name) for name, table in weights.items()]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, tables)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "l.onnx")
    return tmp_path / "l.onnx", weights


def run(path, x: np.ndarray) -> np.ndarray:
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def test_weights_are_stored_in_half_and_computed_in_float32(linear):
    path, weights = linear
    before = path.stat().st_size
    store_in_half(path)
    x = np.random.randn(3, 40).astype(np.float32)
    halved = weights["ordinary"].astype(np.float16).astype(np.float32)
    wanted = x @ weights["large"] @ halved + weights["few"]
    np.testing.assert_allclose(run(path, x), wanted, rtol=1e-4, atol=1e-5 * abs(wanted).max())
    kinds = {t.name: t.data_type for t in onnx.load(path).graph.initializer}
    assert kinds == {"large": 1, "ordinary.float16": 10, "few": 1}
    assert 5000 < before - path.stat().st_size < 6000  # of 3,000 numbers, two bytes each


def test_linear_layers_are_quantized(linear):
    path, _ = linear
    x = np.random.randn(3, 40).astype(np.float32)
    wanted = run(path, x)
    before = path.stat().st_size
    quantize(path)
    found = run(path, x)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert path.stat().st_size < before / 2
    assert not [p for p in path.parent.iterdir() if p != path]


def test_fewer_bits_are_of_onnx_alone():
    with pytest.raises(UserError, match="give --format onnx"):
        Options("torchscript", precision="int8")
