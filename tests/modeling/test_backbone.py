import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn
from torchvision.models import resnet50
from torchvision.ops.misc import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from detr_d2.errors import UserError
from detr_d2.modeling import resnet_blocks
from detr_d2.modeling.backbone import padding_mask_of, resize_padding_mask

STAGES = ("res2", "res3", "res4", "res5")


def build(depth=50, dilation=1, freeze_at=2, **resnets):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_detr_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
    cfg.MODEL.RESNETS.RES5_DILATION = dilation
    if depth in (18, 34):
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return build_backbone(cfg)


def three_by_threes(stage):
    """Of each block, the stride, dilation and padding of its 3x3 convolutions."""
    return [
        [
            (m.stride[0], m.dilation[0], m.padding[0])
            for m in block.modules()
            if getattr(m, "kernel_size", None) == (3, 3)
        ]
        for block in stage
    ]


@pytest.mark.parametrize("dilation, last", [(1, (32, (5, 3))), (2, (16, (9, 6)))])
def test_channels_strides_and_sizes(dilation, last):
    backbone = build(dilation=dilation)
    shape = backbone.output_shape()
    assert [shape[name].channels for name in STAGES] == [256, 512, 1024, 2048]
    assert [shape[name].stride for name in STAGES] == [4, 8, 16, last[0]]
    features = backbone(torch.rand(1, 3, 130, 90))
    sizes = [tuple(features[name].shape[2:]) for name in STAGES]
    assert sizes == [(33, 23), (17, 12), (9, 6), last[1]]


def test_res5_of_a_plain_model_has_stride_2_and_no_dilation():
    assert three_by_threes(build().res5) == [[(2, 1, 1)], [(1, 1, 1)], [(1, 1, 1)]]


def test_dilations_of_dc5_are_1_2_2():
    backbone = build(dilation=2)
    assert three_by_threes(backbone.res5) == [[(1, 1, 1)], [(1, 2, 2)], [(1, 2, 2)]]
    for stage in (backbone.res2, backbone.res3, backbone.res4):
        assert {dilation for block in three_by_threes(stage) for _, dilation, _ in block} == {1}


def test_dilations_of_dc5_with_basic_blocks():
    backbone = build(depth=18, dilation=2)
    assert three_by_threes(backbone.res5) == [[(1, 1, 1)] * 2, [(1, 2, 2)] * 2]
    assert backbone.output_shape()["res5"].stride == 16


@pytest.mark.parametrize(
    "depth, blocks", [(18, [2, 2, 2, 2]), (34, [3, 4, 6, 3]), (101, [3, 4, 23, 3])]
)
def test_blocks_of_each_depth(depth, blocks):
    backbone = build(depth=depth, RES2_OUT_CHANNELS=16, STEM_OUT_CHANNELS=8, WIDTH_PER_GROUP=4)
    assert [len(stage) for stage in backbone.stages] == blocks
    shape = backbone.output_shape()
    assert [shape[name].channels for name in STAGES] == [16, 32, 64, 128]


def torchvision_name(name):
    """res3.0.conv2.norm.weight -> layer2.0.bn2.weight"""
    name = name.replace("stem.", "")
    name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    for stage in range(2, 6):
        name = name.replace(f"res{stage}", f"layer{stage - 1}")
    for conv in range(1, 4):
        name = name.replace(f"conv{conv}.norm", f"bn{conv}")
    return name


@pytest.mark.parametrize("dc5", [False, True])
@torch.no_grad()
def test_equals_torchvision(dc5):
    theirs = resnet50(
        norm_layer=TorchvisionFrozenBatchNorm2d,
        replace_stride_with_dilation=[False, False, dc5],
    )
    for module in theirs.modules():
        if isinstance(module, TorchvisionFrozenBatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.2, 0.6)
            module.bias.normal_()
    weights = theirs.double().state_dict()
    ours = build(dilation=2 if dc5 else 1).double()
    names = ours.state_dict().keys()
    ours.load_state_dict({name: weights[torchvision_name(name)] for name in names})
    assert {torchvision_name(name) for name in names} == weights.keys() - {"fc.weight", "fc.bias"}

    x = torch.randn(2, 3, 65, 97).double()
    features = ours(x)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    for name, layer in zip(STAGES, (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
        x = layer(x)
        torch.testing.assert_close(features[name], x, rtol=1e-10, atol=1e-10)


def test_freeze_at_2_trains_res3_and_above():
    backbone = build(freeze_at=2)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == name.startswith(("res3", "res4", "res5"))
    norms = [m for m in backbone.modules() if "Norm" in type(m).__name__]
    assert all(isinstance(norm, FrozenBatchNorm2d) and norm.eps == 1e-5 for norm in norms)


def test_freeze_at_0_trains_all():
    assert all(parameter.requires_grad for parameter in build(freeze_at=0).parameters())


@pytest.mark.parametrize("depth", [20, 50.5])
def test_unknown_depth_is_refused(depth):
    with pytest.raises(UserError, match="DEPTH"):
        build(depth=depth)


@pytest.mark.parametrize("dilation", [0, 4])
def test_unknown_dilation_is_refused(dilation):
    with pytest.raises(UserError, match="RES5_DILATION"):
        build(dilation=dilation)


def test_padding_mask_by_hand():
    mask = padding_mask_of([(2, 3), (3, 1), (3, 4)], (3, 4), "cpu")
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [
        [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]],
        [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]


def test_no_padding_has_no_mask():
    assert padding_mask_of([(3, 4), (3, 4)], (3, 4), "cpu") is None
    # As `ImageList` has them.
    assert padding_mask_of([(3, 4)], torch.zeros(1, 3, 3, 4).shape[-2:], "cpu") is None
    assert resize_padding_mask(None, (2, 2)) is None


def test_resizing_takes_the_nearest_and_does_not_round_up():
    # 100 pixels have 4 cells at stride 32, which take pixels 0, 25, 50, 75 on each side: an image
    # of 76 has all cells, where ceil(76 / 32) would leave it 3.
    mask = padding_mask_of([(76, 100), (100, 75), (26, 25)], (100, 100), "cpu")
    resized = resize_padding_mask(mask, (4, 4))
    assert resized.dtype == torch.bool
    assert resized.int().tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]],
        [[0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
    ]


def small_backbone(norm, depth=18, **resnets):
    """In eval mode and float64, with statistics and weights of norms that are not trivial."""
    small = {"RES2_OUT_CHANNELS": 8, "STEM_OUT_CHANNELS": 8, "WIDTH_PER_GROUP": 4, **resnets}
    backbone = build(depth=depth, NORM=norm, dilation=2, freeze_at=0, **small)
    for module in backbone.modules():
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            with torch.no_grad():
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.2, 1.5)
                module.bias.normal_()
    return backbone.double().eval()


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 41, 53)])
def test_norms_are_folded_where_nothing_is_trained(norm, shape, monkeypatch):
    backbone = small_backbone(norm)
    x = torch.randn(shape).double()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    plain = backbone(x)
    with torch.no_grad():
        for kind in (FrozenBatchNorm2d, nn.BatchNorm2d):
            monkeypatch.setattr(kind, "forward", None)  # it is not called
        folded = backbone(x.contiguous(memory_format=torch.channels_last))
    for name, feature in plain.items():
        assert feature.requires_grad
        torch.testing.assert_close(folded[name], feature.detach(), rtol=1e-9, atol=1e-9)
    after = backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_sums_and_relus_of_float32_are_part_of_the_convolution(depth, memory_format, monkeypatch):
    if not resnet_blocks._one_pass_works():
        pytest.skip("this PyTorch has no oneDNN")
    # The stem's map goes on unchanged through the first shortcut of R18, and is a result as well.
    backbone = small_backbone("FrozenBN", depth, OUT_FEATURES=["stem", *STAGES])
    x = torch.randn(2, 3, 41, 53).double()
    plain = backbone(x)
    backbone, x = backbone.float(), x.float().contiguous(memory_format=memory_format)
    monkeypatch.setattr(resnet_blocks, "_add_and_rectify", None)  # it is not called
    given = x.clone()
    with torch.no_grad():
        found = backbone(x)
    assert torch.equal(x, given)
    for name, feature in plain.items():
        wanted = feature.detach()
        torch.testing.assert_close(
            found[name].double() / wanted.abs().max(),
            wanted / wanted.abs().max(),
            rtol=0,
            atol=1e-5,
        )


def test_what_is_trained_alone_gets_its_gradient():
    """A shortcut's convolution, while the one that adds to it is frozen."""
    gradients = []
    backbone = small_backbone("FrozenBN", 50).requires_grad_(False)
    weight = backbone.res3[0].shortcut.weight.requires_grad_()
    x = torch.randn(1, 3, 41, 53).double()
    for dtype in (torch.float64, torch.float32):
        backbone.to(dtype)(x.to(dtype))["res5"].mean().backward()
        gradients.append(weight.grad.double())
        weight.grad = None
    largest = gradients[0].abs().max()
    assert largest > 0
    torch.testing.assert_close(gradients[1] / largest, gradients[0] / largest, rtol=0, atol=1e-4)


@torch.no_grad()
def test_hooks_see_what_a_block_has_given():
    backbone, kept = small_backbone("FrozenBN", 50).float(), []
    x = torch.randn(1, 3, 41, 53)
    wanted = backbone(x)
    for stage in backbone.stages:
        for block in stage:
            block.register_forward_hook(lambda _, __, out: kept.append((out, out.clone())))
    found = backbone(x)
    assert len(kept) == 16 and all(torch.equal(*pair) for pair in kept)
    assert all(torch.equal(found[name], wanted[name]) for name in STAGES)


@torch.no_grad()
def test_random_numbers_are_left_alone():
    backbone, x = small_backbone("FrozenBN").float(), torch.randn(1, 3, 33, 40)
    resnet_blocks._one_pass_works.cache_clear()
    before = torch.get_rng_state()
    backbone(x)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_mixed_precision_and_compilation_go_the_plain_way():
    backbone, x = small_backbone("FrozenBN").float(), torch.randn(1, 3, 33, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert {feature.dtype for feature in backbone(x).values()} == {torch.bfloat16}
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    for name, feature in compiled(x).items():
        torch.testing.assert_close(feature, backbone(x)[name], rtol=1e-4, atol=1e-4)


def test_a_pytorch_without_the_one_pass_convolution_does_without(monkeypatch):
    backbone, x = small_backbone("FrozenBN").float(), torch.randn(1, 3, 33, 40)
    with torch.no_grad():
        wanted = backbone(x)["res5"]
        monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", None)
        resnet_blocks._one_pass_works.cache_clear()
        assert not resnet_blocks._one_pass_works()
        found = backbone(x)["res5"]
    resnet_blocks._one_pass_works.cache_clear()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_weights_that_come_later_are_folded_too():
    first, second = small_backbone("FrozenBN"), small_backbone("FrozenBN")
    x = torch.randn(1, 3, 33, 40).double()
    wanted = second(x)["res5"]
    assert not torch.allclose(first(x)["res5"], wanted)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x)["res5"], wanted)


@torch.no_grad()
def test_a_norm_that_is_trained_is_not_folded():
    """BatchNorm in training mode goes by the batch's statistics, and takes them in."""
    backbone = small_backbone("BN").train()
    before = backbone.stem.conv1.norm.running_mean.clone()
    x = torch.randn(2, 3, 64, 64).double()
    found = backbone.stem.conv1(x)
    wanted = nn.functional.conv2d(x, backbone.stem.conv1.weight, stride=2, padding=3)
    mean, variance = wanted.mean((0, 2, 3)), wanted.var((0, 2, 3), correction=0)
    norm = backbone.stem.conv1.norm
    scale = norm.weight / (variance + norm.eps).sqrt()
    wanted = (wanted - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    assert not torch.equal(norm.running_mean, before)
