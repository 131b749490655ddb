"""What `MODEL.WEIGHTS` may name, and what becomes of it in the model."""

import argparse
import logging
import pickle

import pytest
import torch
import torchvision
from detectron2.data import DatasetCatalog, MetadataCatalog
from small_models import BOXES, PANOPTIC, STANDARD_WIDTHS, of_dataset, same_weights, small_model

from detr_d2.checkpoint import Checkpointer, formats, names
from detr_d2.checkpoint.classes import COCO_PANOPTIC, COCO_PANOPTIC_RAW, COCO_THINGS_RAW, HEAD
from detr_d2.errors import UserError

MASK_BRANCH = ("bbox_attention.", "mask_head.")


def load(path, config_file=PANOPTIC, changes=None):
    """A model of random weights that has loaded `path`, and its state dict before."""
    model, cfg = small_model(config_file, changes)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Checkpointer.from_config(cfg, model).load(str(path))
    return model, before


def saved(folder, config_file=PANOPTIC, changes=None, **checkpointables):
    """A model that was saved as folder/model.pth."""
    model, cfg = small_model(config_file, changes)
    Checkpointer.from_config(cfg, model, str(folder), **checkpointables).save("model", iteration=3)
    return model


def official(model, panoptic, num_rows):
    """An official checkpoint with the weights of `model`, whose class head has random rows."""
    weights, unknown = names.rename_back(model.state_dict(), names.OFFICIAL)
    assert not unknown
    weights[HEAD[0]], weights[HEAD[1]] = torch.rand(num_rows, 128), torch.rand(num_rows)
    if panoptic:
        weights = names.add_prefix(weights, "detr.", MASK_BRANCH)
    args = argparse.Namespace(dilation=False, nheads=8, lr=1e-4)
    return {"model": weights, "args": args, "epoch": 499}


@pytest.mark.parametrize(
    "theirs, ours, lacking",
    [
        ("abc", "cab", None),
        ("abcd", "db", None),
        ("abc", "abd", r"does not have d of .* \(and has c, which the dataset lacks\)"),
        ("ab", "abc", "does not have c of"),
    ],
    ids=["another order", "some of them", "another one", "one more"],
)
def test_an_evaluation_needs_all_classes(dataset, tmp_path, theirs, ours, lacking):
    first = dataset([(name, n, True) for n, name in enumerate(theirs)])
    saved(tmp_path, changes=of_dataset(first, len(theirs)))
    second = dataset([(name, n, True) for n, name in enumerate(ours)])
    model, cfg = small_model(PANOPTIC, of_dataset(second, len(ours)))
    checkpointer = Checkpointer.from_config(cfg, model)
    checkpointer.load(str(tmp_path / "model.pth"))
    if lacking is None:
        checkpointer.require_classes()
    else:
        with pytest.raises(UserError, match=lacking):
            checkpointer.require_classes()


@pytest.fixture
def dataset(request):
    """A dataset whose metadata has the given classes: [(name, category id, is a thing)]."""

    names = []

    def register(classes):
        name = f"{request.node.name}_{len(names)}"
        names.append(name)
        DatasetCatalog.register(name, list)
        ids = {True: {}, False: {}}
        for row, (_, id_, isthing) in enumerate(classes):
            ids[isthing][id_] = row
        MetadataCatalog.get(name).set(
            thing_classes=[c[0] for c in classes],
            thing_dataset_id_to_contiguous_id=ids[True],
            stuff_dataset_id_to_contiguous_id=ids[False],
        )
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.parametrize(("depth", "dc5"), [(18, False), (50, False), (50, True)])
def test_torchvision_backbone(tmp_path, depth, dc5):
    """The file gives torchvision's own features, to the last digits."""
    dilation = [False, False, True] if dc5 else None
    build = getattr(torchvision.models, f"resnet{depth}")
    theirs = build(replace_stride_with_dilation=dilation).eval()
    for name, tensor in theirs.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    widths = STANDARD_WIDTHS | {"MODEL.RESNETS.RES2_OUT_CHANNELS": 64 if depth == 18 else 256}
    changes = {"MODEL.RESNETS.DEPTH": depth, "MODEL.RESNETS.RES5_DILATION": 1 + dc5, **widths}
    ours, before = load(tmp_path / "resnet.pth", BOXES, changes)

    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    theirs.double().fc = theirs.avgpool = torch.nn.Identity()
    with torch.no_grad():
        expected = theirs(x).view(ours.double().backbone(x)["res5"].shape)
        torch.testing.assert_close(ours.backbone(x)["res5"], expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.class_embed.weight, before[HEAD[0]].double())


def test_torchvision_backbone_below_a_pyramid(tmp_path, shapes):
    """One file starts both models of a comparison."""
    resnet = torchvision.models.resnet18()
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    changes = {"MODEL.RESNETS.STEM_OUT_CHANNELS": 64, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
    folder = "Shapes-PanopticSegmentation/"
    fpn, _ = load(tmp_path / "resnet.pth", folder + "panoptic_fpn_R_18_narrow.yaml", changes)
    changes["MODEL.RESNETS.RES5_DILATION"] = 1
    detr, _ = load(tmp_path / "resnet.pth", folder + "panoptic_detr_R_18_narrow_dc5.yaml", changes)
    assert same_weights(fpn.backbone.bottom_up.state_dict(), detr.backbone.state_dict())
    assert torch.equal(detr.backbone.stem.conv1.weight, resnet.conv1.weight)


@pytest.mark.parametrize("in_1x1", [False, True])
def test_torchvisions_resnet50_starts_panoptic_fpn_of_coco(tmp_path, caplog, in_1x1):
    """Its strides are elsewhere than in the weights that this configuration names."""
    resnet = torchvision.models.resnet50()
    torch.save(resnet.state_dict(), tmp_path / "resnet50.pth")
    changes = STANDARD_WIDTHS | {"MODEL.RESNETS.STRIDE_IN_1X1": in_1x1}
    config_file = "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"
    fpn, before = load(tmp_path / "resnet50.pth", config_file, changes)
    weights = {f"backbone.{n}": w for n, w in fpn.backbone.bottom_up.state_dict().items()}
    theirs, _ = names.rename(resnet.state_dict(), names.TORCHVISION)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights.items())
    assert not any(torch.equal(w, before[n]) for n, w in fpn.state_dict().items() if "bottom" in n)
    assert ("correct MODEL.RESNETS.STRIDE_IN_1X1" in caplog.text) == in_1x1


def test_detectron2_backbone(tmp_path, caplog):
    """A .pkl of numpy arrays without the backbone's prefix, with a classifier too many."""
    source = saved(tmp_path).backbone.state_dict()
    arrays = {name: tensor.numpy() for name, tensor in source.items()}
    content = {
        "model": {**arrays, "stem.fc.weight": arrays["stem.conv1.weight"]},
        "__author__": "torchvision",
        "matching_heuristics": True,
    }
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    model, _ = load(tmp_path / "R-50.pkl")
    assert same_weights(model.backbone.state_dict(), source)
    assert "unexpected: not used   | backbone.stem.fc.*" in caplog.text


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_own_checkpoint(tmp_path, caplog, prefix, half):
    source = saved(tmp_path).state_dict()
    content = torch.load(tmp_path / "model.pth")
    weights = {prefix + n: t.half() if half else t for n, t in content["model"].items()}
    torch.save({**content, "model": weights}, tmp_path / "model.pth")
    with caplog.at_level(logging.INFO):
        model, _ = load(tmp_path / "model.pth")
    expected = {n: t.half().float() for n, t in source.items()} if half else source
    assert same_weights(model.state_dict(), expected)
    assert "differ" not in caplog.text


def test_own_checkpoint_of_before_classes_were_recorded(tmp_path):
    source = saved(tmp_path)
    torch.save({"model": source.state_dict()}, tmp_path / "model.pth")
    assert same_weights(load(tmp_path / "model.pth")[0].state_dict(), source.state_dict())


def test_resuming_restores_the_optimiser(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    saved(tmp_path, optimizer=optimizer)
    optimizer.param_groups[0]["lr"] = 5.0
    model, cfg = small_model()
    checkpointer = Checkpointer.from_config(cfg, model, str(tmp_path), optimizer=optimizer)
    rest = checkpointer.resume_or_load("", resume=True)
    assert rest["iteration"] == 3
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_official_boxes(tmp_path):
    source, _ = small_model(BOXES)
    content = official(source, panoptic=False, num_rows=92)
    torch.save(content, tmp_path / "detr.pth")
    model, _ = load(tmp_path / "detr.pth", BOXES)
    rows = [id_ for id_, name in enumerate(COCO_THINGS_RAW.names) if name] + [91]
    expected = source.state_dict() | {name: content["model"][name][rows] for name in HEAD}
    assert same_weights(model.state_dict(), expected)


def test_official_panoptic(tmp_path):
    source, _ = small_model()
    content = official(source, panoptic=True, num_rows=251)
    torch.save(content, tmp_path / "detr.pth")
    model, _ = load(tmp_path / "detr.pth")
    rows = [id_ for id_, name in enumerate(COCO_PANOPTIC_RAW.names) if name] + [250]
    head = {name: content["model"][f"detr.{name}"][rows] for name in HEAD}
    assert same_weights(model.state_dict(), source.state_dict() | head)


def test_official_boxes_into_a_panoptic_model(tmp_path, caplog):
    content = official(small_model(BOXES)[0], panoptic=False, num_rows=92)
    torch.save(content, tmp_path / "detr.pth")
    with caplog.at_level(logging.INFO):
        model, before = load(tmp_path / "detr.pth")
    after = model.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if n.startswith(MASK_BRANCH))
    assert torch.equal(model.query_embed.weight, content["model"]["query_embed.weight"])
    # "person" has the id 1; stuff is new; no-object is last
    assert torch.equal(after[HEAD[1]][0], content["model"][HEAD[1]][1])
    assert torch.equal(after[HEAD[1]][80:133], before[HEAD[1]][80:133])
    assert torch.equal(after[HEAD[1]][133], content["model"][HEAD[1]][91])
    assert "missing: initial value | bbox_attention.*" in caplog.text
    assert "missing: initial value | mask_head.*" in caplog.text
    assert "unexpected" not in caplog.text
    assert "80 of 133 classes taken by name: person (row 0 from 1: person)" in caplog.text


def test_coco_rows_go_by_category_id_not_by_position(tmp_path, dataset):
    """COCO with its classes in another order, and in another language."""
    content = official(small_model()[0], panoptic=True, num_rows=251)
    torch.save(content, tmp_path / "detr.pth")
    classes = [(f"Klasse {id_}", id_, id_ <= 90) for id_ in COCO_PANOPTIC.ids[::-1]]
    model, _ = load(tmp_path / "detr.pth", changes=of_dataset(dataset(classes), 133))
    rows = [*COCO_PANOPTIC.ids[::-1], 250]
    assert torch.equal(model.class_embed.bias, content["model"][f"detr.{HEAD[1]}"][rows])


def test_a_dataset_of_ones_own(tmp_path, dataset, caplog):
    """Rows go by name; its ids, which COCO has for other classes, mean nothing."""
    content = official(small_model()[0], panoptic=True, num_rows=251)
    torch.save(content, tmp_path / "detr.pth")
    name = dataset([("Traffic light", 1, True), ("wombat", 2, True), ("river", 3, False)])
    changes = of_dataset(name, 3)
    with caplog.at_level(logging.INFO):
        model, before = load(tmp_path / "detr.pth", changes=changes)
    theirs, after = content["model"][f"detr.{HEAD[0]}"], model.class_embed.weight
    assert torch.equal(after[[0, 2, 3]], theirs[[10, 148, 250]])
    assert torch.equal(after[1], before[HEAD[0]][1])
    assert "2 of 3 classes taken by name" in caplog.text
    assert "Freshly initialised: wombat." in caplog.text

    # And from there, by the names that the checkpoint records, to the next dataset.
    _, cfg = small_model(changes=changes)
    Checkpointer.from_config(cfg, model, str(tmp_path)).save("own")
    name = dataset([("river", 7, True), ("x", 8, True), ("y", 9, True)])
    again, before = load(tmp_path / "own.pth", changes=of_dataset(name, 3))
    assert torch.equal(again.class_embed.weight[[0, 3]], after[[2, 3]])
    assert torch.equal(again.class_embed.weight[[1, 2]], before[HEAD[0]][[1, 2]])


def test_what_does_not_fit_is_listed(tmp_path, caplog):
    saved(tmp_path, changes={"MODEL.DETR.NUM_OBJECT_QUERIES": 9, "MODEL.DETR.ENC_LAYERS": 3})
    model, before = load(tmp_path / "model.pth", BOXES)
    assert torch.equal(model.query_embed.weight, before["query_embed.weight"])
    lines = caplog.text.splitlines()
    assert any("wrong shape" in x and "query_embed.weight" in x and "(9, 128)" in x for x in lines)
    assert any("unexpected" in x and "mask_head.*" in x for x in lines)
    assert any("unexpected" in x and "transformer.encoder.layers.*.*" in x for x in lines)
    assert not any("missing" in x for x in lines)


def test_another_architecture_of_the_same_shapes_is_said(tmp_path, caplog):
    """A DC5 and another number of heads fit any model, but their results do not."""
    content = official(small_model(BOXES)[0], panoptic=False, num_rows=92)
    content["args"] = argparse.Namespace(dilation=True, nheads=4)
    torch.save(content, tmp_path / "detr.pth")
    load(tmp_path / "detr.pth", BOXES)
    assert "has dilation True, this one has False" in caplog.text
    assert "has num_heads 4, this one has 8" in caplog.text
    caplog.clear()
    load(tmp_path / "detr.pth", BOXES, {"MODEL.RESNETS.RES5_DILATION": 2, "MODEL.DETR.NHEADS": 4})
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_nothing_fits(tmp_path):
    torch.save({"net.weight": torch.zeros(1)}, tmp_path / "other.pth")
    model, cfg = small_model()
    checkpointer = Checkpointer.from_config(cfg, model)
    with pytest.raises(UserError, match="Nothing in the checkpoint"):
        checkpointer.load(str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match=r"no file .*nowhere\.pth"):
        checkpointer.load(str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match=r"folder without model\.safetensors"):
        checkpointer.load(str(tmp_path))
    source = saved(tmp_path)
    checkpointer.load(str(tmp_path / "model.pth"))  # an error leaves it as it was
    assert same_weights(model.state_dict(), source.state_dict())


def test_no_weights_named():
    model, cfg = small_model()
    assert Checkpointer.from_config(cfg, model).load("") == {}


def test_what_is_recorded_is_read_again_only_where_the_file_is_another(
    dataset, tmp_path, monkeypatch
):
    read = []
    of_file = formats.read_checkpoint
    monkeypatch.setattr(formats, "read_checkpoint", lambda f: read.append(f) or of_file(f))
    for times, classes in ((1, "ab"), (2, "abc")):
        name = dataset([(c, n, True) for n, c in enumerate(classes)])
        saved(tmp_path, changes=of_dataset(name, len(classes)))
        for _ in range(2):
            categories = formats.recorded_categories(str(tmp_path / "model.pth"))
            assert [c["name"] for c in categories] == list(classes)
            categories.clear()  # which is the asker's own
        assert len(read) == times
    assert formats.recorded_categories(str(tmp_path / "none.pth")) is None
