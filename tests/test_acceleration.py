"""An accelerated model is the model that it was made of, but for rounding."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone import resnet
from resnets import STAGES, small_resnet
from torch import nn

from detr_d2 import acceleration
from detr_d2.acceleration import ConvolvedLinear, PlanarGroupNorm, accelerate


@pytest.fixture
def any_width(monkeypatch):
    """Narrow linear layers are replaced as well."""
    monkeypatch.setattr(acceleration, "_WIDE", 0)


def accelerated(module: nn.Module) -> nn.Module:
    """A copy, in a parent, since a module cannot be replaced by itself."""
    return accelerate(nn.Sequential(copy.deepcopy(module)))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 5), (2, 7, 5), (3, 2, 7, 5), (2, 0, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_the_product_that_it_stands_for(shape, dtype, bias, any_width):
    ours = accelerated(nn.Linear(5, 3, bias).to(dtype))[0]
    assert type(ours) is ConvolvedLinear
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    found = ours(x)
    found.sin().sum().backward()
    weight, tokens = (t.detach().double().requires_grad_() for t in (ours.weight, x))
    wanted = (tokens[..., None, :] * weight).sum(-1)
    pairs = [(x, tokens), (ours.weight, weight)]
    if bias:
        own = ours.bias.detach().double().requires_grad_()
        wanted = wanted + own
        pairs.append((ours.bias, own))
    wanted.sin().sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert found.shape == (*shape[:-1], 3) and found.dtype == dtype and found.is_contiguous()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)
    for a, b in pairs:
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=0, atol=tolerance)


def test_a_linear_layer_takes_tokens_in_any_order_in_memory(any_width):
    ours, x = accelerated(nn.Linear(5, 3))[0], torch.randn(2, 5, 7).transpose(1, 2)
    torch.testing.assert_close(ours(x), nn.Linear.forward(ours, x))


def test_narrow_layers_are_left_alone():
    model = accelerate(nn.Sequential(nn.Linear(256, 511), nn.Linear(256, 512)))
    assert [type(layer) for layer in model] == [nn.Linear, ConvolvedLinear]


@torch.no_grad()
def test_mixed_precision_casts_a_linear_layer(any_width):
    ours, x = accelerated(nn.Linear(5, 3))[0], torch.randn(2, 7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16


@pytest.mark.parametrize("channels", [16, 64, 128])  # 2, 8 and 16 a group
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 6)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_group_norm_is_the_same_and_keeps_the_format(channels, size, memory_format, randomise):
    plain = randomise(nn.GroupNorm(8, channels)).double()
    ours = accelerated(plain)[0]
    assert type(ours) is PlanarGroupNorm
    x = torch.randn(3, channels, *size).double().contiguous(memory_format=memory_format)
    given = [x.clone().requires_grad_() for _ in range(2)]
    found, wanted = ours(given[0]), plain(given[1])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=memory_format)
    for output in (found, wanted):
        output.sin().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=0, atol=1e-12)


def test_a_group_norm_takes_no_image_and_a_part_of_a_map():
    ours = accelerated(nn.GroupNorm(8, 16))[0]
    assert ours(torch.randn(0, 16, 3, 4)).shape == (0, 16, 3, 4)
    x = torch.randn(2, 16, 6, 8).contiguous(memory_format=torch.channels_last)[..., :5, :7]
    torch.testing.assert_close(ours(x), nn.GroupNorm.forward(ours, x.clone()))


def test_parameters_and_their_names_stay(build_model, any_width):
    model = build_model("PanopticDETR").eval()
    named, state = dict(model.named_parameters()), list(model.state_dict())
    modes = {name: module.training for name, module in model.named_modules()}
    state_of_chance = torch.get_rng_state()
    assert accelerate(model) is model
    assert torch.equal(torch.get_rng_state(), state_of_chance)
    after = dict(model.named_parameters())
    assert list(after) == list(named) and all(after[name] is p for name, p in named.items())
    assert list(model.state_dict()) == state
    assert {name: module.training for name, module in model.named_modules()} == modes
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds >= {"ConvolvedLinear", "PlanarGroupNorm", "FoldingStem", "FoldingStage"}
    assert not kinds & {"Linear", "GroupNorm", "BasicStem"}


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[(65, 97), (64, 80)], [(70, 90)]])
def test_the_model_predicts_the_same(build_model, sizes, any_width):
    plain = build_model("PanopticDETR").double().eval()
    fast = accelerate(copy.deepcopy(plain))
    inputs = [{"image": (torch.rand(3, *size) * 255).double()} for size in sizes]
    results = []
    for model in (plain, fast):
        predictions = model.predict(model.preprocess(inputs), all_layers=False)
        queries = [torch.arange(3 * b, 4) for b in range(len(sizes))]
        results.append((predictions.logits, predictions.boxes, model.masks(predictions, queries)))
    for wanted, found in zip(*results):
        assert wanted.std() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_derived_classes_and_other_norms_are_left_alone(any_width):
    class Own(nn.Linear):
        pass

    model = nn.ModuleDict({"own": Own(2, 3), "attention": nn.MultiheadAttention(4, 1)})
    before = list(map(type, model.modules()))
    accelerate(model)
    assert list(map(type, model.modules())) == before
    backbone = small_resnet("GN", RES2_OUT_CHANNELS=32, STEM_OUT_CHANNELS=32)
    x = torch.randn(1, 3, 41, 53).double()
    with torch.no_grad():
        wanted, found = backbone(x), accelerated(backbone)(x)
    for name in STAGES:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-9)


def test_another_block_keeps_its_stage_plain():
    class Own(resnet.BasicBlock):
        pass

    backbone = small_resnet("FrozenBN")
    backbone.res3[1].__class__ = Own
    fast = accelerated(backbone)[0]
    kinds = [type(stage).__name__ for stage in fast.stages]
    assert kinds == ["FoldingStage", "Sequential", "FoldingStage", "FoldingStage"]
    assert all(getattr(fast, name) is s for name, s in zip(fast.stage_names, fast.stages))


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 41, 53)])
def test_norms_are_folded_where_nothing_is_trained(norm, depth, shape, monkeypatch):
    plain = small_resnet(norm, depth)
    backbone = accelerated(plain)
    x = torch.randn(shape).double()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    wanted = plain(x)
    with torch.no_grad():
        for kind in (FrozenBatchNorm2d, nn.BatchNorm2d):
            monkeypatch.setattr(kind, "forward", None)  # it is not called
        folded = backbone(x.contiguous(memory_format=torch.channels_last))
    for name, feature in wanted.items():
        assert feature.requires_grad
        torch.testing.assert_close(folded[name], feature.detach(), rtol=1e-9, atol=1e-9)
    after = backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_sums_and_relus_of_float32_are_part_of_the_convolution(depth, memory_format, monkeypatch):
    if not acceleration._one_pass_works():
        pytest.skip("this PyTorch has no oneDNN")
    # The stem's map goes on unchanged through the first shortcut of R18, and is a result as well.
    plain = small_resnet("FrozenBN", depth, OUT_FEATURES=["stem", *STAGES])
    x = torch.randn(2, 3, 41, 53).double()
    wanted = plain(x)
    backbone = accelerated(plain.float())
    x = x.float().contiguous(memory_format=memory_format)
    monkeypatch.setattr(acceleration, "_add_and_rectify", None)  # it is not called
    given = x.clone()
    with torch.no_grad():
        found = backbone(x)
    assert torch.equal(x, given)
    for name, feature in wanted.items():
        largest = feature.abs().max().detach()
        torch.testing.assert_close(
            found[name].double() / largest, feature.detach() / largest, rtol=0, atol=1e-5
        )


def test_what_is_trained_alone_gets_its_gradient():
    """A shortcut's convolution, while the one that adds to it is frozen."""
    gradients = []
    backbone = accelerated(small_resnet("FrozenBN", 50).requires_grad_(False))
    weight = backbone[0].res3[0].shortcut.weight.requires_grad_()
    x = torch.randn(1, 3, 41, 53).double()
    for dtype in (torch.float64, torch.float32):
        backbone.to(dtype)(x.to(dtype))["res5"].mean().backward()
        gradients.append(weight.grad.double())
        weight.grad = None
    largest = gradients[0].abs().max()
    assert largest > 0
    torch.testing.assert_close(gradients[1] / largest, gradients[0] / largest, rtol=0, atol=1e-4)


@torch.no_grad()
def test_random_numbers_are_left_alone():
    backbone, x = accelerated(small_resnet("FrozenBN").float()), torch.randn(1, 3, 33, 40)
    acceleration._one_pass_works.cache_clear()
    before = torch.get_rng_state()
    backbone(x)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_mixed_precision_and_compilation_go_the_plain_way():
    backbone, x = accelerated(small_resnet("FrozenBN").float()), torch.randn(1, 3, 33, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert {feature.dtype for feature in backbone(x).values()} == {torch.bfloat16}
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    for name, feature in compiled(x).items():
        torch.testing.assert_close(feature, backbone(x)[name], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_pytorch_without_the_one_pass_convolution_does_without(monkeypatch):
    backbone, x = accelerated(small_resnet("FrozenBN").float()), torch.randn(1, 3, 33, 40)
    wanted = backbone(x)["res5"]
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    acceleration._one_pass_works.cache_clear()
    assert not acceleration._one_pass_works()
    found = backbone(x)["res5"]
    acceleration._one_pass_works.cache_clear()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_weights_that_come_later_are_folded_too():
    first, second = (accelerated(small_resnet("FrozenBN")) for _ in range(2))
    x = torch.randn(1, 3, 33, 40).double()
    wanted = second(x)["res5"]
    assert not torch.allclose(first(x)["res5"], wanted)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x)["res5"], wanted)


@torch.no_grad()
def test_a_norm_that_is_trained_is_not_folded():
    """BatchNorm in training mode goes by the batch's statistics, and takes them in."""
    plain = small_resnet("BN").train()
    fast = accelerated(plain)
    before = fast[0].stem.conv1.norm.running_mean.clone()
    x = torch.randn(2, 3, 64, 64).double()
    found, wanted = fast(x), plain(x)
    for name in STAGES:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=1e-10)
    after = fast[0].stem.conv1.norm.running_mean
    assert torch.equal(after, plain.stem.conv1.norm.running_mean)
    assert not torch.equal(after, before)
