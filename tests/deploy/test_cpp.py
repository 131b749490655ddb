"""The C++ example finds what `OnnxPredictor` finds, where onnxruntime's headers and library are."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_onnx import METADATA, write_model

from detr_d2.deploy import OnnxPredictor

SOURCE = Path(__file__).parents[2] / "docs" / "cpp" / "panoptic.cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The example, built as its first lines say."""
    root = os.getenv("ONNXRUNTIME_ROOT")
    if root is None:
        pytest.skip("$ONNXRUNTIME_ROOT does not name a folder with onnxruntime's include and lib")
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ here")
    pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
    built = tmp_path_factory.mktemp("cpp") / "panoptic"
    command = f"g++ -std=c++17 -O1 -Wall -Werror -I {root}/include {SOURCE} -L {root}/lib"
    options = ["-lonnxruntime", f"-Wl,-rpath,{root}/lib", "-o", str(built)]
    finished = subprocess.run(
        [*command.split(), *options], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return built


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)


def test_it_finds_what_python_finds(program, tmp_path):
    model, picture, panoptic = (tmp_path / n for n in ("model.onnx", "picture.ppm", "map.pgm"))
    write_model(model, METADATA)
    pixels = np.random.randint(256, size=(7, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    finished = run(program, model, picture, panoptic)
    assert finished.returncode == 0, finished.stderr
    ids, segments = OnnxPredictor(model)(pixels[:, :, ::-1])["panoptic_seg"]
    lines = [
        f"{s['id']} class {s['category_id']} score {s['score']:g} pixels {s['area']}"
        for s in segments
    ]
    assert finished.stdout.splitlines() == lines and len(lines) == 1
    np.testing.assert_array_equal(np.asarray(Image.open(panoptic)), ids)


def test_what_cannot_be_read_is_one_line(program, tmp_path):
    write_model(tmp_path / "model.onnx", METADATA)
    (tmp_path / "picture.ppm").write_bytes(b"P6\n5 5\n255\nshort")
    finished = run(program, tmp_path / "model.onnx", tmp_path / "picture.ppm", tmp_path / "m.pgm")
    assert finished.returncode == 1 and finished.stderr.startswith("error: ")
    assert not (tmp_path / "m.pgm").exists()
    assert len(SOURCE.read_text().splitlines()) <= 60
