"""Datasets and caches are in a folder of the tests' own, never in the user's."""

import json
import logging
import os
import runpy
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

os.environ["DETECTRON2_DATASETS"] = tempfile.mkdtemp(prefix="detr_d2_tests_")
os.environ["FVCORE_CACHE"] = f"{os.environ['DETECTRON2_DATASETS']}/cache"

import numpy as np
import pytest
import torch
from browser import Browser, find_browser
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from panoptic_png import id2rgb
from PIL import Image
from torch import nn

from detr_d2 import add_detr_config

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = REPOSITORY.parent / "shared" / "data"


def pytest_unconfigure():
    shutil.rmtree(os.environ["DETECTRON2_DATASETS"])


@pytest.fixture(autouse=True)
def same_random_numbers():
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def logs_reach_pytest():
    """Tools that run within a test set up logging, which keeps messages from `caplog` for good."""
    yield
    logging.getLogger("detr_d2").propagate = True


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, where there is one."""
    if find_browser() is None:
        pytest.skip("there is no Chromium here (apt-get install chromium-headless-shell)")
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Real photographs with panoptic annotation, where they are at hand."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the real photographs are not here (../shared/data)")
    return PHOTOGRAPHS


@pytest.fixture(scope="session")
def shapes() -> Path:
    """A few shapes in the dataset folder of the tests: 12 for training, 6 for validation."""
    from detr_d2.data.registration import datasets_root
    from detr_d2.data.shapes import write_shapes

    folder = datasets_root() / "shapes_panoptic"
    write_shapes(folder, {"train": 12, "val": 6})
    return folder


@pytest.fixture(scope="session")
def randomise():
    """A function that redraws biases and norms: zeros and ones would hide mistakes."""

    def redraw(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(-1, 1)
        return module

    return redraw


@pytest.fixture(scope="session")
def build_model():
    """A function that builds a small model by way of the configuration and the registry."""

    def build(meta_architecture: str = "PanopticDETR", *overrides) -> nn.Module:
        cfg = get_cfg()
        add_detr_config(cfg)
        cfg.merge_from_list(
            [
                *("MODEL.META_ARCHITECTURE", meta_architecture),
                *("MODEL.DEVICE", "cpu"),
                *("MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53]),
                *("MODEL.PIXEL_STD", [58.395, 57.12, 57.375]),
                *("MODEL.BACKBONE.NAME", "build_detr_resnet_backbone"),
                *("MODEL.BACKBONE.FREEZE_AT", 0),
                *("MODEL.RESNETS.DEPTH", 18),
                *("MODEL.RESNETS.NORM", "BN"),
                *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
                *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
                *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
                *("MODEL.DETR.NUM_CLASSES", 8),
                *("MODEL.DETR.NUM_OBJECT_QUERIES", 5),
                *("MODEL.DETR.HIDDEN_DIM", 128),
                *("MODEL.DETR.ENC_LAYERS", 1),
                *("MODEL.DETR.DEC_LAYERS", 2),
                *("MODEL.DETR.DIM_FEEDFORWARD", 32),
                *("DATASETS.TRAIN", ("shapes_panoptic_train",)),
                *overrides,
            ]
        )
        return META_ARCH_REGISTRY.get(meta_architecture)(cfg)

    return build


@pytest.fixture(scope="session")
def draw_input():
    """A function that draws an image of noise with vertical stripes for segments."""

    def draw(height: int, width: int, segments: int = 3) -> dict:
        columns = torch.arange(width) * (segments + 1) // width  # the first stripe is VOID
        starts = [columns.tolist().index(s) for s in range(1, segments + 1)] + [width]
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(
            torch.tensor([[a, 0, b, height] for a, b in pairwise(starts)]).view(-1, 4)
        )
        instances.gt_classes = torch.arange(segments) * 2 % 8
        return {
            "image": torch.randint(256, (3, height, width), dtype=torch.uint8),
            "instances": instances,
            "segment_map": columns.expand(height, width),
        }

    return draw


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """A function that runs a tool; gives its exit code or last sentence, and what it printed."""

    def run_tool(tool, *arguments):
        path = str(REPOSITORY / "tools" / f"{tool}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(path, run_name="__main__")
        return end.value.code, capsys.readouterr().out

    return run_tool


@pytest.fixture
def tiny_dataset(tmp_path):
    """One 4x6 image with a thing (id 7, category 3), a stuff (id 300, category 9) and VOID.

    Gives the folder, and a function that writes the files again with changes.
    """

    def write(ids=None, image_size=None, **changes) -> dict:
        ids = TINY_IDS if ids is None else ids
        height, width = image_size or ids.shape
        annotation = {
            "image_id": 5,
            "file_name": "a.png",
            "segments_info": [
                {"id": 7, "category_id": 3, "iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2]},
                {"id": 300, "category_id": 9, "iscrowd": 0, "area": 10, "bbox": [0, 2, 6, 2]},
            ],
        }
        content = {
            "images": [{"id": 5, "file_name": "a.png", "height": height, "width": width}],
            "annotations": [annotation],
            "categories": [
                {"id": 9, "name": "road", "isthing": 0},
                {"id": 3, "name": "car", "isthing": 1},
            ],
            **changes,
        }
        for folder in ("images", "panoptic"):
            (tmp_path / folder).mkdir(exist_ok=True)
        pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
        Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
        Image.fromarray(id2rgb(ids)).save(tmp_path / "panoptic" / "a.png")
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        return content

    write()
    return tmp_path, write


@pytest.fixture
def half_seen(tiny_dataset):
    """The folder of it, whose thing is a model's, and whose stuff is a person's."""
    folder, write = tiny_dataset
    content = write()
    thing, stuff = content["annotations"][0]["segments_info"]
    thing.update(source="model", score=0.9)
    stuff.update(source="human")
    write(annotations=content["annotations"])
    return folder


TINY_IDS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 7, 7, 0, 0, 0],
        [300, 7, 7, 300, 300, 300],
        [300, 300, 300, 300, 300, 300],
    ]
)
