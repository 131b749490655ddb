"""`OnnxPredictor` needs numpy and onnxruntime, and nothing else."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_onnx import METADATA, write_model

from detr_d2.deploy import OnnxPredictor
from detr_d2.errors import UserError

pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

REPOSITORY = Path(__file__).parents[2]
ALONE = """
import json, sys
import numpy as np
from detr_d2.deploy import OnnxPredictor
predictor = OnnxPredictor("model.onnx")
image = 4 * np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
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
    image = 4 * np.arange(60).reshape(4, 5, 3)
    assert seg == (image[:, :, 2] // 128).tolist()  # red is the last of BGR
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
