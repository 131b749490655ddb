"""`OnnxPredictor` needs numpy and onnxruntime, and nothing else."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detr_d2.deploy import OnnxPredictor
from detr_d2.deploy.predictor import METADATA_KEY
from detr_d2.errors import UserError

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

REPOSITORY = Path(__file__).parents[2]
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
ALONE = """
import json, sys
import numpy as np
from detr_d2.deploy import OnnxPredictor
predictor = OnnxPredictor("model.onnx")
image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
result = predictor(image)
seg, info = result["panoptic_seg"]
instances = result["instances"]
print(json.dumps([seg.tolist(), info, instances.pred_boxes.tolist(), predictor.class_names]))
assert not {"torch", "detectron2", "cv2", "PIL"} & set(sys.modules), sorted(sys.modules)
import detr_d2
try:
    detr_d2.modeling
except ImportError as error:
    print(error)
"""


def write_model(path: Path, metadata: dict | None) -> None:
    """A file with the inputs and outputs of an exported model of two queries. The map is the red
    channel, and the box of the second query is no instance."""
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
        helper.make_node("Cast", ["red"], ["panoptic_seg"], to=kind.INT32),
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


def test_it_runs_where_there_is_nothing_else(tmp_path):
    write_model(tmp_path / "model.onnx", METADATA)
    installed = tmp_path / "installed"
    installed.mkdir()
    for module in ("numpy", "onnxruntime"):
        package = Path(importlib.util.find_spec(module).origin).parent
        for folder in (package, package.with_name(f"{module}.libs")):
            if folder.is_dir():
                (installed / folder.name).symlink_to(folder)
    # -S: without the site-packages of this environment.
    finished = subprocess.run(
        [sys.executable, "-S", "-c", ALONE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{installed}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    result, said = finished.stdout.strip().splitlines()
    seg, info, boxes, names = json.loads(result)
    image = np.arange(60).reshape(4, 5, 3)
    assert seg == image[:, :, 2].tolist()  # red is the last of BGR
    segment = {"id": 1, "category_id": 1, "isthing": False, "score": 0.5, "area": 20}
    assert info == [segment] and boxes == [[0, 1, 2, 3]] and names == ["car", "road"]
    assert said.startswith("detr_d2 needs detectron2")


def test_bad_files_and_images(tmp_path):
    with pytest.raises(UserError, match=r"none.onnx does not exist"):
        OnnxPredictor(tmp_path / "none.onnx")
    write_model(tmp_path / "other.onnx", None)
    with pytest.raises(UserError, match="does not say what its classes are"):
        OnnxPredictor(tmp_path / "other.onnx")
    write_model(tmp_path / "model.onnx", {**METADATA, "size": [4, 5]})
    predictor = OnnxPredictor(tmp_path / "model.onnx")
    assert len(predictor(np.zeros((4, 5, 3), np.uint8))["instances"]) == 1
    with pytest.raises(UserError, match=r"5 x 5 pixels, and the model was exported for 5 x 4"):
        predictor(np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(UserError, match=r"give .height, width, 3. uint8, BGR"):
        predictor(np.zeros((5, 5), np.uint8))
