"""ResNeXt, Swin, ViTDet's and timm's backbones give what their own libraries give; their names,
their files, and what is refused."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import SwinTransformer
from small_backbones import BACKBONES, RESNEXT, SWIN, VIT, needs_timm, timm_model
from torchvision.models import resnet50

from detr_d2.checkpoint import Checkpointer
from detr_d2.checkpoint.formats import About
from detr_d2.errors import UserError
from detr_d2.modeling.backbone import levels_of


def shapes_of(**strides) -> dict[str, ShapeSpec]:
    return {name: ShapeSpec(channels=8, stride=stride) for name, stride in strides.items()}


@pytest.mark.parametrize(
    "strides, levels",
    [
        (dict(p0=4, p1=8, p2=16, p3=32), dict(res2="p0", res3="p1", res4="p2", res5="p3")),
        (dict(p2=4, p3=8, p4=16, p5=32, p6=64), dict(res2="p2", res3="p3", res4="p4", res5="p5")),
        (
            dict(stem=4, res2=4, res3=8, res4=16, res5=16),
            {f"res{i}": f"res{i}" for i in range(2, 6)},
        ),
        (dict(b=32, a=8), dict(res3="a", res5="b")),
        (dict(x=2, y=4, z=32), dict(res2="y", res5="z")),
        (dict(early=16, late=16), dict(res4="early", res5="late")),
        (dict(patches=14), dict(res5="patches")),
        (dict(far=64), dict(res5="far")),
    ],
)
def test_levels_by_their_strides(strides, levels):
    assert levels_of([], shapes_of(**strides)) == levels


def test_levels_by_their_names():
    shapes = shapes_of(a=4, b=8, c=16, d=16)
    assert levels_of(["b", "d"], shapes) == {"res4": "b", "res5": "d"}
    assert levels_of(["a", "b", "c", "d"], shapes)["res2"] == "a"
    # A ResNet without some of its levels (MODEL.RESNETS.OUT_FEATURES).
    names = ["res2", "res3", "res4", "res5"]
    assert levels_of(names, shapes_of(res3=8, res5=32)) == {"res3": "res3", "res5": "res5"}
    for wrong, sentence in (
        (["a", "e"], "gives a, b, c, d, and not e"),
        (["d", "a"], r"strides \[16, 4\]: name the coarsest"),
        (["a"] * 5, "name one to four"),
    ):
        with pytest.raises(UserError, match=sentence):
            levels_of(wrong, shapes)


def renewed(module: torch.nn.Module) -> torch.nn.Module:
    """In float64 and eval mode, with numbers that are not trivial."""
    for tensor in module.double().eval().state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.05, 0.15)
    return module


def assert_same(ours: dict, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for found, wanted in zip(ours.values(), theirs):
        assert wanted.std() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_swin_is_detectron2s(build_model):
    theirs = SwinTransformer(
        embed_dim=16, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=3, drop_path_rate=0
    )
    ours = build_model("DETR", *SWIN).backbone.double().eval()
    ours.load_state_dict(renewed(theirs).state_dict())
    x = torch.randn(2, 3, 75, 97).double()
    assert_same(ours(x), list(theirs(x).values()))


@needs_timm
@torch.no_grad()
def test_vit_is_vitdets(build_model):
    recipe = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model.backbone
    recipe.net.update(img_size=128, embed_dim=32, depth=3, num_heads=2, window_size=3)
    recipe.net.update(window_block_indexes=[0, 1], drop_path_rate=0.0)
    recipe.out_channels = 32
    theirs = instantiate(recipe)
    ours = build_model("DETR", *VIT).backbone.double().eval()
    ours.load_state_dict(renewed(theirs).state_dict())
    for size in ((128, 128), (64, 96)):
        x = torch.randn(2, 3, *size).double()
        assert_same(ours(x), list(theirs(x).values()))


@needs_timm
@pytest.mark.parametrize("name", [n for n in BACKBONES if n.startswith("timm")])
@torch.no_grad()
def test_timms_maps_are_those_of_the_whole_model(build_model, name):
    import timm

    own = dict(zip(BACKBONES[name][::2], BACKBONES[name][1::2]))
    theirs = timm.create_model(own["MODEL.TIMM.NAME"], **dict(own["MODEL.TIMM.ARGUMENTS"]))
    renewed(theirs)
    ours = build_model("DETR", *BACKBONES[name]).backbone.double().eval()
    weights = theirs.state_dict()
    for container in ("stages", "layers", "stem"):  # which timm takes parts out of
        weights = {
            n.replace(f"{container}.", f"{container}_", 1) if n.startswith(container) else n: w
            for n, w in weights.items()
        }
    missing, _ = ours.net.load_state_dict(weights, strict=False)
    assert missing == []
    x = torch.randn(2, 3, 128, 128).double()
    maps = theirs.forward_intermediates(x, intermediates_only=True)
    assert_same(ours(x), maps[-4:])


@torch.no_grad()
def test_torchvisions_resnext_is_read_and_gives_the_same(build_model, tmp_path):
    theirs = renewed(resnet50(groups=4, width_per_group=2))
    torch.save(theirs.state_dict(), tmp_path / "resnext.pth")
    wide = ("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256)
    model = build_model("DETR", *RESNEXT, *wide).double().eval()
    Checkpointer(model, dataset=None, about=About()).load(str(tmp_path / "resnext.pth"))
    x = torch.randn(1, 3, 75, 97).double()
    features = model.backbone(x)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    maps = []
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        x = layer(x)
        maps.append(x)
    assert_same(features, maps)


# Files


@pytest.mark.parametrize("below", [False, True])
def test_the_authors_file_of_swin_is_read(build_model, tmp_path, below):
    """Which has a norm and a head for classes beside, and no norm for each level."""
    source = SwinTransformer(
        embed_dim=16, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=3, drop_path_rate=0
    )
    weights = {n: w for n, w in source.state_dict().items() if not n.startswith("norm")}
    beside = {"norm.weight": torch.ones(128), "head.weight": torch.zeros(10, 128)}
    torch.save({"model": {**weights, **beside}}, tmp_path / "swin.pth")
    over = ("MODEL.BACKBONE.NAME", "build_fpn_backbone", "MODEL.FPN.BOTTOM_UP", SWIN[1])
    own = (*SWIN, *over, "MODEL.FPN.IN_FEATURES", [], "MODEL.FPN.OUT_CHANNELS", 8)
    model = build_model("DETR", *(own if below else SWIN))
    Checkpointer(model, dataset=None, about=About()).load(str(tmp_path / "swin.pth"))
    found = (model.backbone.bottom_up if below else model.backbone).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@needs_timm
def test_the_authors_file_of_mae_is_read(build_model, tmp_path):
    """Its names are those of timm's ViT, which it was written with."""
    from timm.models.vision_transformer import VisionTransformer

    source = VisionTransformer(embed_dim=32, depth=3, num_heads=2, num_classes=0).state_dict()
    torch.save({"model": source}, tmp_path / "mae.pth")
    model = build_model("DETR", *VIT)
    Checkpointer(model, dataset=None, about=About()).load(str(tmp_path / "mae.pth"))
    found = model.backbone.net.state_dict()
    unused = {"cls_token", "norm.weight", "norm.bias"}
    for name in source.keys() - unused:
        assert torch.equal(found[name], source[name]), name
    assert all("rel_pos" in name for name in found.keys() - source.keys())


@needs_timm
def test_timms_own_weights_are_for_what_has_no_others(build_model, monkeypatch, caplog):
    import timm

    asked, create = [], timm.create_model

    def no_network(name, pretrained, **arguments):
        asked.append(pretrained)
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", no_network)
    own = (*timm_model("test_vit"), "MODEL.TIMM.PRETRAINED", True, "MODEL.BACKBONE.FREEZE_AT", 0)
    build_model("DETR", *own)
    assert "test_vit was trained with MODEL.PIXEL_MEAN [127.5, 127.5, 127.5]" in caplog.text
    build_model("DETR", *own, "MODEL.WEIGHTS", "model.pth")
    assert asked == [True, False]

    def broken(*_, **__):
        raise OSError("No route\nto host.")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(UserError, match=r"test_vit: No route to host\. Name a model"):
        build_model("DETR", *own)


# What is refused


@needs_timm
@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (("MODEL.TIMM.NAME", ""), r"MODEL\.TIMM\.NAME \(not set\)"),
        (timm_model("no_such_net"), "no_such_net"),
        (timm_model("test_resnet", ["no_such", 1]), "no_such"),
        (timm_model("vit_tiny_patch16_224", ["patch_size", 14]), r"of strides \[14, 14, 14\]"),
        ((*timm_model("hrnet_w18_small"), "MODEL.BACKBONE.FREEZE_AT", 2), "FREEZE_AT is 2"),
        ((*timm_model("test_resnet"), "MODEL.BACKBONE.FREEZE_AT", 6), "FREEZE_AT is 6"),
        ((*SWIN, "MODEL.SWIN.DEPTHS", [1, 1]), r"four numbers each"),
        ((*SWIN, "MODEL.SWIN.OUT_FEATURES", ["p0", "p3"]), "name the last ones of p0, p1, p2, p3"),
        ((*VIT, "MODEL.VIT.PATCH_SIZE", 14), "set 16"),
        ((*VIT, "MODEL.VIT.OUT_FEATURES", []), "name the last ones of p2, p3, p4, p5"),
        (("MODEL.BACKBONE.NAME", "build_fpn_backbone"), "MODEL.FPN.BOTTOM_UP is not set"),
        (
            (
                *("MODEL.BACKBONE.NAME", "build_fpn_backbone", "MODEL.RESNETS.RES5_DILATION", 2),
                *("MODEL.FPN.BOTTOM_UP", "build_detr_resnet_backbone", "MODEL.FPN.IN_FEATURES", []),
            ),
            r"res5 are \[4, 8, 16, 16\]",
        ),
    ],
)
def test_what_cannot_be_built_is_one_sentence(build_model, overrides, sentence):
    if overrides[0] == "MODEL.TIMM.NAME":
        overrides = ("MODEL.BACKBONE.NAME", "build_timm_backbone", *overrides)
    with pytest.raises(UserError, match=sentence) as caught:
        build_model("DETR", *overrides)
    assert "\n" not in str(caught.value)


@needs_timm
def test_parts_say_which_levels_they_lack(build_model):
    plain = timm_model("vit_tiny_patch16_224", ["embed_dim", 32], ["depth", 3], ["num_heads", 2])
    assert build_model("DETR", *plain, "MODEL.BACKBONE.FREEZE_AT", 0).levels == {"res5": "res4"}
    with pytest.raises(UserError, match="MASK_HEAD MaskHeadSmallConv reads res4, res3, res2"):
        build_model("PanopticDETR", *plain)
    with pytest.raises(UserError, match="TRANSFORMER RegionTransformer reads res4, res3, res2"):
        build_model("DETR", *plain, "MODEL.DETR.TRANSFORMER", "RegionTransformer")
    coarse = ("MODEL.DETR.IN_FEATURES", ["res3", "res4", "res4", "res5"])
    with pytest.raises(UserError, match="finest level that it is given has 8"):
        build_model("DETR", *coarse, "MODEL.DETR.TRANSFORMER", "RegionTransformer")


def test_without_timm_it_is_said(build_model, monkeypatch):
    monkeypatch.setattr("detr_d2.requirements.find_spec", lambda name: None)
    for overrides in (VIT, timm_model("test_resnet"), (*SWIN, "MODEL.SWIN.DROP_PATH_RATE", 0.1)):
        with pytest.raises(UserError, match=r"needs timm, which is not installed.*pip install"):
            build_model("DETR", *overrides)
    build_model("DETR", *SWIN)
