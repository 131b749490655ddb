import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from resnets import STAGES, build_resnet
from torchvision.models import resnet50
from torchvision.ops.misc import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d

from detr_d2.errors import UserError
from detr_d2.modeling.backbone import padding_mask_of, resize_padding_mask


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
    backbone = build_resnet(dilation=dilation)
    shape = backbone.output_shape()
    assert [shape[name].channels for name in STAGES] == [256, 512, 1024, 2048]
    assert [shape[name].stride for name in STAGES] == [4, 8, 16, last[0]]
    features = backbone(torch.rand(1, 3, 130, 90))
    sizes = [tuple(features[name].shape[2:]) for name in STAGES]
    assert sizes == [(33, 23), (17, 12), (9, 6), last[1]]


def test_res5_of_a_plain_model_has_stride_2_and_no_dilation():
    assert three_by_threes(build_resnet().res5) == [[(2, 1, 1)], [(1, 1, 1)], [(1, 1, 1)]]


def test_dilations_of_dc5_are_1_2_2():
    backbone = build_resnet(dilation=2)
    assert three_by_threes(backbone.res5) == [[(1, 1, 1)], [(1, 2, 2)], [(1, 2, 2)]]
    for stage in (backbone.res2, backbone.res3, backbone.res4):
        assert {dilation for block in three_by_threes(stage) for _, dilation, _ in block} == {1}


def test_dilations_of_dc5_with_basic_blocks():
    backbone = build_resnet(depth=18, dilation=2)
    assert three_by_threes(backbone.res5) == [[(1, 1, 1)] * 2, [(1, 2, 2)] * 2]
    assert backbone.output_shape()["res5"].stride == 16


@pytest.mark.parametrize(
    "depth, blocks", [(18, [2, 2, 2, 2]), (34, [3, 4, 6, 3]), (101, [3, 4, 23, 3])]
)
def test_blocks_of_each_depth(depth, blocks):
    backbone = build_resnet(
        depth=depth, RES2_OUT_CHANNELS=16, STEM_OUT_CHANNELS=8, WIDTH_PER_GROUP=4
    )
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
    ours = build_resnet(dilation=2 if dc5 else 1).double()
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
    backbone = build_resnet(freeze_at=2)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == name.startswith(("res3", "res4", "res5"))
    norms = [m for m in backbone.modules() if "Norm" in type(m).__name__]
    assert all(isinstance(norm, FrozenBatchNorm2d) and norm.eps == 1e-5 for norm in norms)


def test_freeze_at_0_trains_all():
    assert all(parameter.requires_grad for parameter in build_resnet(freeze_at=0).parameters())


@pytest.mark.parametrize("depth", [20, 50.5])
def test_unknown_depth_is_refused(depth):
    with pytest.raises(UserError, match="DEPTH"):
        build_resnet(depth=depth)


@pytest.mark.parametrize("dilation", [0, 4])
def test_unknown_dilation_is_refused(dilation):
    with pytest.raises(UserError, match="RES5_DILATION"):
        build_resnet(dilation=dilation)


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
