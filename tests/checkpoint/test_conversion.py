"""Every bit survives every direction and the way back."""

import argparse
import json
import logging
import sys
from itertools import product

import pytest
import torch
from safetensors.torch import load_file
from small_models import BOXES, PANOPTIC, STANDARD_WIDTHS, of_dataset, same_weights, small_model

from detr_d2.checkpoint import Checkpointer, convert, names
from detr_d2.checkpoint.classes import HEAD
from detr_d2.errors import UserError

DC5 = {"MODEL.RESNETS.RES5_DILATION": 2, **STANDARD_WIDTHS}


def save_ours(path, config_file=PANOPTIC, changes=None):
    model, cfg = small_model(config_file, changes)
    Checkpointer.from_config(cfg, model, str(path.parent)).save(path.stem)
    return weights_of(path)


def save_official(path, config_file=PANOPTIC, **args):
    """With random numbers in all rows of the class head, those that no category uses too."""
    panoptic = config_file == PANOPTIC
    weights, _ = names.rename_back(small_model(config_file)[0].state_dict(), names.OFFICIAL)
    num_rows = 251 if panoptic else 92
    weights[HEAD[0]], weights[HEAD[1]] = torch.rand(num_rows, 128), torch.rand(num_rows)
    if panoptic:
        weights = names.add_prefix(weights, "detr.", ("bbox_attention.", "mask_head."))
    content = {"model": weights, "optimizer": {}}
    torch.save(content | ({"args": argparse.Namespace(**args)} if args else {}), path)
    return weights


def weights_of(path):
    if path.is_dir():
        return load_file(path / "model.safetensors")
    return torch.load(path)["model"]


def convert_along(path, formats):
    """Convert from format to format; returns where the last one is."""
    for i, to in enumerate(formats):
        target = path.parent / f"{path.name}_{i}_{to}"
        convert(str(path), str(target), to)
        path = target
    return path


@pytest.mark.parametrize("config_file", [BOXES, PANOPTIC])
@pytest.mark.parametrize("way", product(("official", "huggingface"), repeat=2), ids="-".join)
def test_there_and_back_from_ours(tmp_path, config_file, way):
    weights = save_ours(tmp_path / "model.pth", config_file)
    end = convert_along(tmp_path / "model.pth", [*way, "d2"])
    assert same_weights(weights_of(end), weights)


@pytest.mark.parametrize("config_file", [BOXES, PANOPTIC])
@pytest.mark.parametrize("way", product(("d2", "huggingface"), repeat=2), ids="-".join)
def test_there_and_back_from_official(tmp_path, config_file, way):
    """With all raw rows, those that no category uses too."""
    weights = save_official(tmp_path / "detr.pth", config_file)
    end = convert_along(tmp_path / "detr.pth", [*way, "official"])
    assert same_weights(weights_of(end), weights)


@pytest.mark.parametrize("changes", [{}, DC5], ids=["strided", "DC5"])
def test_there_and_back_from_huggingface(tmp_path, changes):
    """DC5 has another backbone there, with other names."""
    save_ours(tmp_path / "model.pth", PANOPTIC, changes)
    theirs = convert_along(tmp_path / "model.pth", ["huggingface"])
    end = convert_along(theirs, ["d2", "official", "huggingface"])
    assert same_weights(weights_of(end), weights_of(theirs))
    assert (end / "config.json").read_text() == (theirs / "config.json").read_text()
    is_timm = any(name.endswith("layer1.0.conv1.weight") for name in weights_of(theirs))
    assert is_timm == bool(changes)


def test_classes_of_ones_own(tmp_path):
    changes = of_dataset("shapes_panoptic_train", 8)
    weights = save_ours(tmp_path / "model.pth", PANOPTIC, changes)
    end = convert_along(tmp_path / "model.pth", ["official", "d2"])
    assert same_weights(weights_of(end), weights)
    recorded = torch.load(tmp_path / "model.pth")["detr_d2"]
    assert torch.load(end)["detr_d2"] == recorded
    assert len(recorded["class_names"]) == 8
    theirs = convert_along(tmp_path / "model.pth", ["huggingface"])
    labels = json.loads((theirs / "config.json").read_text())["id2label"]
    assert list(labels.values()) == recorded["class_names"]
    assert same_weights(weights_of(convert_along(theirs, ["d2"])), weights)


def test_ours_has_no_optimiser_and_contiguous_rows(tmp_path, caplog):
    weights = save_official(tmp_path / "detr.pth", nheads=8, dilation=True)
    with caplog.at_level(logging.INFO):
        ours = torch.load(convert_along(tmp_path / "detr.pth", ["d2"]))
    assert ours["model"][HEAD[0]].shape == (134, 128)
    assert torch.equal(ours["model"][HEAD[1]][0], weights["detr.class_embed.bias"][1])
    assert ours.keys() == {"model", "detr_d2", "unused_class_rows"}
    assert ours["detr_d2"]["dilation"] is True
    assert "Left out, beside the weights: args, optimizer." in caplog.text
    # Detectron2's own checkpointer can load it as well.
    model, _ = small_model()
    model.load_state_dict(ours["model"])


def test_official_file_of_coco_has_the_official_shape(tmp_path):
    """Names and shapes are those that the official code builds; made-up rows never win."""
    save_ours(tmp_path / "model.pth", BOXES)
    weights = weights_of(convert_along(tmp_path / "model.pth", ["official"]))
    assert weights[HEAD[0]].shape == (92, 128)
    assert weights[HEAD[1]][12] == -10000
    assert "backbone.0.body.layer4.2.bn3.running_var" in weights


def test_half(tmp_path):
    weights = save_ours(tmp_path / "model.pth")
    convert(str(tmp_path / "model.pth"), str(tmp_path / "half.pth"), "d2", half=True)
    halved = weights_of(tmp_path / "half.pth")
    assert same_weights(halved, {name: tensor.half() for name, tensor in weights.items()})
    ratio = (tmp_path / "half.pth").stat().st_size / (tmp_path / "model.pth").stat().st_size
    assert ratio < 0.6
    theirs = convert_along(tmp_path / "half.pth", ["huggingface"])
    assert json.loads((theirs / "config.json").read_text())["dtype"] == "float16"

    weights["input_proj.bias"][0] = 1e5
    torch.save({"model": weights}, tmp_path / "large.pth")
    with pytest.raises(UserError, match=r"input_proj\.bias has numbers too large"):
        convert(str(tmp_path / "large.pth"), str(tmp_path / "x"), "d2", half=True)


def test_what_the_weights_do_not_say(tmp_path, caplog):
    save_official(tmp_path / "detr.pth", BOXES)
    with caplog.at_level(logging.INFO):
        theirs = convert_along(tmp_path / "detr.pth", ["huggingface"])
    assert json.loads((theirs / "config.json").read_text())["dilation"] is False
    assert "Nothing says whether the model is a DC5" in caplog.text
    assert "attention heads the model has: taken for 8" in caplog.text
    save_official(tmp_path / "with_args.pth", BOXES, nheads=4, dilation=False)
    theirs = convert_along(tmp_path / "with_args.pth", ["huggingface"])
    assert json.loads((theirs / "config.json").read_text())["encoder_attention_heads"] == 4


@pytest.mark.parametrize(
    ("to", "changes", "message"),
    [
        ("huggingface", {"MODEL.DETR.PRE_NORM": True}, "no pre-norm"),
        ("huggingface", {"MODEL.RESNETS.RES5_DILATION": 2}, "DC5 for the standard ResNets alone"),
        ("huggingface", {"MODEL.RESNETS.WIDTH_PER_GROUP": 16}, "has no convolution of shape"),
        ("official", {"MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone"}, "has no name for"),
        ("official", {"MODEL.DETR.TRANSFORMER": "RegionTransformer"}, "has no name for"),
        ("huggingface", {"MODEL.DETR.TRANSFORMER": "RegionTransformer"}, "has no name for"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, to, changes, message):
    if "MODEL.BACKBONE.NAME" in changes:
        weights = small_model()[0].state_dict()
        torch.save({"model": {**weights, "backbone.fpn.weight": torch.ones(1)}}, tmp_path / "m.pth")
    else:
        save_ours(tmp_path / "m.pth", PANOPTIC, changes)
    with pytest.raises(UserError, match=message):
        convert(str(tmp_path / "m.pth"), str(tmp_path / "out"), to)
    leftovers = {path.name for path in tmp_path.iterdir()} - {"m.pth", "last_checkpoint"}
    assert not leftovers


def test_refusals(tmp_path):
    save_ours(tmp_path / "model.pth", BOXES)
    with pytest.raises(UserError, match=r"model\.pth exists"):
        convert(str(tmp_path / "model.pth"), str(tmp_path / "model.pth"), "d2")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(UserError, match="torchvision ResNet, not a DETR"):
        convert(str(tmp_path / "resnet.pth"), str(tmp_path / "x"), "d2")


def test_unknown_weights_are_named(tmp_path, caplog):
    weights = save_official(tmp_path / "detr.pth", BOXES) | {"extra.weight": torch.ones(1)}
    torch.save({"model": weights}, tmp_path / "more.pth")
    end = convert_along(tmp_path / "more.pth", ["d2"])
    assert "Left out, with unknown names: extra.weight." in caplog.text
    assert "extra.weight" not in weights_of(end)


def test_tool(tmp_path, monkeypatch):
    import runpy
    from pathlib import Path

    tool = str(Path(__file__).resolve().parents[2] / "tools" / "convert_checkpoint.py")
    save_official(tmp_path / "detr.pth")

    def run(*args):
        monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(tool, run_name="__main__")
        return stop.value.code

    theirs = tmp_path / "theirs"
    standard = tmp_path / "standard.pth"
    save_ours(standard, BOXES, STANDARD_WIDTHS)
    assert not run(standard, theirs, "--to", "huggingface", "--half", "--dc5")
    config = json.loads((theirs / "config.json").read_text())
    assert (config["dilation"], config["backbone"], config["dtype"]) == (
        True,
        "resnet50",
        "float16",
    )
    assert "exists" in run(standard, theirs, "--to", "huggingface")


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    save_ours(tmp_path / "model.pth", BOXES)
    before = set(tmp_path.iterdir())
    monkeypatch.setattr("detr_d2.checkpoint.conversion.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(str(tmp_path / "model.pth"), str(tmp_path / "theirs"), "huggingface")
    assert set(tmp_path.iterdir()) == before
