"""Shipped configurations and weights are found by name, whatever the working directory."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.utils.file_io import PathManager

from detr_d2 import model_zoo
from detr_d2.checkpoint import read_checkpoint
from detr_d2.config_files import configs_folder, shipped_names
from detr_d2.engine import setup_cfg
from detr_d2.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
SHAPES = "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5"


def test_every_configuration_has_a_name():
    files = {p.relative_to(REPOSITORY / "configs").as_posix() for p in configs_of_repository()}
    assert set(shipped_names()) == files and len(files) > 30


def configs_of_repository() -> list[Path]:
    return list((REPOSITORY / "configs").rglob("*.yaml"))


def test_a_configuration_by_name_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = model_zoo.get_config("COCO-PanopticSegmentation/panoptic_detr_R_50.yaml")
    assert by_name.MODEL.META_ARCHITECTURE == "PanopticDETR"
    assert by_name == setup_cfg("COCO-PanopticSegmentation/panoptic_detr_R_50")
    assert Path(model_zoo.get_config_file(SHAPES)) == configs_folder() / f"{SHAPES}.yaml"


def test_the_published_weights_are_those_of_the_documentation():
    page = (REPOSITORY / "docs" / "model_zoo.md").read_text()
    rows = dict(re.findall(r"\(\.\./configs/([\w/-]+)\.yaml\) \| \[[^]]+\]\((https[^)]+)\)", page))
    assert len(rows) == 7
    for name, address in rows.items():
        assert model_zoo.get_checkpoint_url(name) == address
        assert address == model_zoo.get_config(name, trained=True).MODEL.WEIGHTS


@pytest.mark.parametrize("shipped", [SHAPES, "Shapes-PanopticSegmentation/panoptic_detr_fast"])
def test_a_trained_model_by_name(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    model = model_zoo.get(shipped, trained=True, device="cpu")
    weights = read_checkpoint(model_zoo.get_checkpoint_url(shipped)).weights
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name].to(tensor.dtype)), name
    untrained = model_zoo.get(shipped, device="cpu")
    assert not torch.equal(untrained.query_embed.weight, model.query_embed.weight)


def test_what_is_not_shipped_is_said_in_one_sentence():
    with pytest.raises(UserError, match=r"no configuration COCO/detr.*COCO-Detection/detr_R_50\.y"):
        model_zoo.get_config_file("COCO/detr")
    with pytest.raises(UserError, match=r"no published weights for .*_joint: train it"):
        model_zoo.get_checkpoint_url("COCO-PanopticSegmentation/panoptic_detr_R_50_joint")
    for path in ("detr_d2://../README.md", "detr_d2://nothing.pth", "detr_d2:///etc/passwd"):
        assert not PathManager.isfile(path)
        with pytest.raises(UserError, match="ships no file"):
            PathManager.get_local_path(path)
