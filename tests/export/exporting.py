"""The shipped models of shapes, exported, for tests."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from detr_d2 import model_zoo
from detr_d2.data.images import find_image_files, read_image
from detr_d2.engine import Predictor
from detr_d2.export import Options, export_model

FAST = "Shapes-PanopticSegmentation/panoptic_detr_fast"
NARROW = "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5"
OFFICIAL = ("MODEL.DETR.PANOPTIC.MERGE", "official", "INPUT.MIN_SIZE_TEST", "80")


def config_of(name: str, *overrides: str):
    return model_zoo.get_config(name, True, ["MODEL.DEVICE", "cpu", *overrides])


def pictures(shapes: Path) -> list[np.ndarray]:
    """(H, W, 3) uint8, RGB."""
    folder = shapes / "val"
    return [read_image(folder / name) for name in find_image_files(folder)[:3]]


def exported(shapes: Path, output: Path, cfg, **options) -> tuple[Predictor, Path, str]:
    """The model, the file of what is exported of it, and the table of the check."""
    if options["format_name"] == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    predictor = Predictor(cfg)
    found = export_model(cfg, predictor, output, pictures(shapes), Options(**options))
    return predictor, *found


def of_other_sizes(shapes: Path) -> list[np.ndarray]:
    """(H, W, 3) uint8, BGR, of sizes that the export has not seen."""
    first, second, _ = (picture[:, :, ::-1] for picture in pictures(shapes))
    return [cv2.resize(first, (131, 77)), cv2.resize(second, (65, 143)), first.copy()]
