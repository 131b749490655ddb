"""An ONNX file that is called as an exported model, and does next to nothing."""

import json
from pathlib import Path

import numpy as np

from detr_d2.deploy.predictor import METADATA_KEY

CLASSES = [
    {"name": "car", "color": [0, 0, 142], "isthing": True},
    {"name": "road", "color": [128, 64, 128], "isthing": False},
]
METADATA = {
    "classes": CLASSES,
    "input_format": "RGB",
    "batch_size": 1,
    "dtype": "uint8",
    "size": None,
}


def write_model(path: Path, metadata: dict | None) -> None:
    """A file with the inputs and outputs of an exported model of two queries. What is half as red
    as can be is its one segment, and the box of the second query is no instance."""
    import onnx

    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {
        "boxes": np.array([[[0, 1, 2, 3], [0, 0, 5, 4]]], np.float32),
        "scores": np.array([[0.75, 0.5]], np.float32),
        "classes": np.array([[0, 1]]),
        "is_instance": np.array([[True, False]]),
        "segment_classes": np.array([[1, -1]]),
        "segment_scores": np.array([[0.5, 0]], np.float32),
        "segment_areas": np.array([[20, 0]]),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in constants.items()
    ]
    nodes += [
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0))),
        helper.make_node("Gather", ["image", "zero"], ["red"], axis=1),
        helper.make_node("Cast", ["red"], ["whole"], to=kind.INT32),
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.int32([128]))),
        helper.make_node("Div", ["whole", "half"], ["panoptic_seg"]),
    ]
    outputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in constants.items()
    ]
    outputs.append(helper.make_tensor_value_info("panoptic_seg", kind.INT32, [1, "h", "w"]))
    image = helper.make_tensor_value_info("image", kind.UINT8, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "model", [image], outputs)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    onnx.save(model, str(path))
