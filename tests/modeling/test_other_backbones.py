"""ResNeXt, Swin, ViTDet's and timm's backbones in all models: training, inference, freezing."""

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage
from parts import PANOPTIC_FPN
from small_backbones import (
    BACKBONES,
    COARSEST,
    EACH,
    PROPOSALS,
    SIZES,
    STEPS,
    SWIN,
    TIMM_SWIN,
    VIT,
    needs_timm,
)

from detr_d2 import add_detr_config
from detr_d2.engine.optimizer import build_optimizer
from detr_d2.engine.recomputation import recompute_activations
from detr_d2.errors import UserError


@pytest.fixture
def batch(draw_input):
    return [draw_input(75, 61), draw_input(40, 97, segments=2)]


@EACH
@pytest.mark.parametrize("model_name", ["DETR", "PanopticDETR", "proposals"])
def test_two_odd_sizes_are_trained_and_inferred(build_model, batch, name, model_name):
    more = {"DETR": COARSEST.get(name, ()), "PanopticDETR": (), "proposals": PROPOSALS}[model_name]
    meta = "DETR" if model_name == "DETR" else "PanopticDETR"
    model = build_model(meta, *BACKBONES[name], *more).train()
    images = model.preprocess(batch)
    assert list(images.tensor.shape[-2:]) == SIZES.get(name, STEPS)
    with EventStorage():
        sum(model(batch).values()).backward()
    # Or several processes would wait for gradients that never come.
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    gradients = [p.grad for p in model.backbone.parameters() if p.requires_grad]
    assert all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)

    model.eval()
    for result, x in zip(model(batch), batch):
        (alone,) = model([x])
        assert torch.equal(
            result["instances"].pred_boxes.tensor, alone["instances"].pred_boxes.tensor
        )
        if meta == "PanopticDETR":
            assert result["panoptic_seg"][0].shape == x["image"].shape[1:]


@EACH
@torch.no_grad()
def test_levels_are_res2_to_res5_whatever_they_are_called(build_model, batch, name):
    model = build_model("PanopticDETR", *BACKBONES[name]).eval()
    assert list(model.levels) == ["res2", "res3", "res4", "res5"]
    images = model.preprocess(batch)
    features = model.predict(images, all_layers=False).features
    for level, stride in zip(model.levels, (4, 8, 16, 32)):
        shape = model.level_shapes[level]
        assert shape.stride == stride
        size = [-(-n // stride) for n in images.tensor.shape[-2:]]
        assert list(features[level].shape) == [2, shape.channels, *size]


@EACH
def test_what_is_frozen_stays_as_it_is(build_model, name):
    free = build_model("DETR", *BACKBONES[name], "MODEL.BACKBONE.FREEZE_AT", 0)
    assert all(p.requires_grad for p in free.backbone.parameters())
    model = build_model("DETR", *BACKBONES[name], "MODEL.BACKBONE.FREEZE_AT", 2).train()
    frozen = {n for n, p in model.backbone.named_parameters() if not p.requires_grad}
    first = {
        "ResNeXt": ("stem.", "res2."),
        "Detectron2's ResNeXt": ("stem.", "res2."),
        "Swin": ("patch_embed.", "layers.0."),
        "ViT": ("net.pos_embed", "net.patch_embed.", "net.blocks.0."),
        "timm ResNet": ("net.conv1.", "net.layer1."),
        "timm ConvNeXt": ("net.stem_", "net.stages_0."),
        "timm Swin of one size": ("net.patch_embed.", "net.layers_0."),
    }[name.removesuffix(", square")]
    # Norms of a ResNet that does not learn have no parameters.
    assert frozen == {n for n, _ in model.backbone.named_parameters() if n.startswith(first)}
    for part, module in model.backbone.named_modules():
        if f"{part}.".startswith(first) and not name.endswith("ResNeXt"):
            assert not module.training, part
    assert model.backbone.training


@needs_timm
@pytest.mark.parametrize("overrides, all_of_it", [(SWIN, 5), (VIT, 4), (TIMM_SWIN, 5)])
@torch.no_grad()
def test_what_is_frozen_drops_no_path(build_model, overrides, all_of_it):
    rate = ("MODEL.SWIN.DROP_PATH_RATE", 0.9, "MODEL.VIT.DROP_PATH_RATE", 0.9)
    if overrides is TIMM_SWIN:
        rate = ("MODEL.TIMM.ARGUMENTS", [*TIMM_SWIN[-1], ["drop_path_rate", 0.9]])
    x = torch.randn(8, 3, 128, 128)
    for freeze_at, same in ((0, False), (all_of_it, True)):
        frozen = ("MODEL.BACKBONE.FREEZE_AT", freeze_at)
        backbone = build_model("DETR", *overrides, *rate, *frozen).backbone.train()
        first, second = list(backbone(x).values())[-1], list(backbone(x).values())[-1]
        assert torch.equal(first, second) == same


@EACH
def test_the_backbone_has_a_rate_of_its_own(build_model, name):
    model = build_model("PanopticDETR", *BACKBONES[name], "MODEL.BACKBONE.FREEZE_AT", 1)
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0, 0.25
    rates = {}
    for group in build_optimizer(cfg, model).param_groups:
        assert not rates.keys() & set(group["params"])
        rates.update(dict.fromkeys(group["params"], group["lr"]))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == rates.keys()
    for parameter_name, parameter in trained.items():
        wanted = 0.25 if parameter_name.startswith("backbone.") else 1.0
        assert rates[parameter] == wanted, parameter_name


@EACH
def test_recomputed_gradients_are_the_same(build_model, batch, name):
    """With stochastic depth, too: what is computed once more draws the same."""
    paths = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DETR.ENC_LAYERS", 1)
    paths += ("MODEL.SWIN.DROP_PATH_RATE", 0.5, "MODEL.VIT.DROP_PATH_RATE", 0.5)
    model = build_model("DETR", *BACKBONES[name], *COARSEST.get(name, ()), *paths).double().train()
    other = copy.deepcopy(model)
    recompute_activations(other)
    gradients, kept = [], []
    for each in (model, other):
        number = []
        torch.manual_seed(0)
        with (
            EventStorage(),
            torch.autograd.graph.saved_tensors_hooks(
                lambda x, number=number: number.append(x.nbytes) or x, lambda x: x
            ),
        ):
            loss = sum(each(batch).values())
        loss.backward()
        kept.append(sum(number))
        gradients.append({n: p.grad for n, p in each.named_parameters() if p.requires_grad})
    assert kept[1] < 0.9 * kept[0]
    for parameter_name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][parameter_name], gradient, rtol=1e-8, atol=1e-10, msg=parameter_name
        )


OVER = ("MODEL.BACKBONE.NAME", "build_fpn_backbone", "MODEL.FPN.IN_FEATURES", [])
OVER += ("MODEL.FPN.BOTTOM_UP",)


@EACH
def test_panoptic_fpn_is_trained_and_inferred(build_model, batch, name):
    own = BACKBONES[name]
    if not name.startswith("ViT"):  # which is a pyramid already
        builder = dict(zip(own[::2], own[1::2])).get(
            "MODEL.BACKBONE.NAME", "build_detr_resnet_backbone"
        )
        own = (*own, *OVER, builder)
    model = build_model("UnifiedPanopticFPN", *PANOPTIC_FPN, *own).train()
    size = SIZES.get(name, STEPS) if "ResNeXt" not in name else STEPS
    assert list(model.preprocess_image(batch).tensor.shape[-2:]) == size
    for x in batch:
        x["sem_seg"] = torch.randint(5, x["image"].shape[1:])
        instances = x["instances"]
        masks = [x["segment_map"] == t + 1 for t in range(len(instances))]
        instances.gt_classes, instances.gt_masks = (
            instances.gt_classes % 4,
            BitMasks(torch.stack(masks)),
        )
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        for result, x in zip(model.eval()(batch), batch):
            assert result["panoptic_seg"][0].shape == x["image"].shape[1:]


@needs_timm
@pytest.mark.parametrize("overrides", [VIT, TIMM_SWIN])
@pytest.mark.parametrize("model_name", ["DETR", "UnifiedPanopticFPN"])
def test_an_image_beyond_the_square_is_refused(build_model, draw_input, overrides, model_name):
    if model_name == "UnifiedPanopticFPN":
        over = (*OVER, "build_timm_backbone") if overrides is TIMM_SWIN else ()
        overrides = (*PANOPTIC_FPN, *overrides, *over)
    model = build_model(model_name, *overrides).eval()
    with pytest.raises(UserError, match=r"140 x 64 .* 128 x 128: set INPUT\.MAX_SIZE_TRAIN"):
        model([draw_input(64, 140)])
