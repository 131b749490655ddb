from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import PanopticFPN
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from parts import PANOPTIC_FPN

from detr_d2.errors import UserError
from detr_d2.modeling.computing import infer_by_size
from detr_d2.modeling.meta_arch.panoptic_fpn import UnifiedPanopticFPN


@pytest.fixture
def build_fpn(build_model):
    def build(*overrides):
        return build_model(
            "UnifiedPanopticFPN",
            *PANOPTIC_FPN,
            *overrides,
        )

    return build


def draw_target(height, width, things):
    """Noise with squares for things on two halves of stuff."""
    instances = Instances((height, width))
    masks = torch.zeros(things, height, width, dtype=torch.bool)
    sem_seg = torch.ones(height, width, dtype=torch.int64)
    sem_seg[:, width // 2 :] = 4
    for t in range(things):
        masks[t, 4 : 4 + 20, 20 * t : 20 * t + 16] = True
    sem_seg[masks.any(0)] = 0
    instances.gt_masks = BitMasks(masks)
    boxes = [[20 * t, 4, 20 * t + 16, 24] for t in range(things)]
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.arange(things) % 4
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": instances, "sem_seg": sem_seg}


@pytest.mark.parametrize("things", [[2], [2, 0, 1], [0]])
def test_trains_with_and_without_things(build_fpn, things):
    model = build_fpn().train()
    inputs = [draw_target(70 + 5 * n, 90, n) for n in things]
    with EventStorage():
        losses = model(inputs)
    names = {
        "loss_sem_seg",
        "loss_rpn_cls",
        "loss_rpn_loc",
        "loss_cls",
        "loss_box_reg",
        "loss_mask",
    }
    assert losses.keys() == names
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    gradient = model.backbone.bottom_up.stem.conv1.weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def as_if_found(classes, panoptic_infos):
    """What Detectron2's model gives for an image of 1 x 4 pixels."""
    instances = Instances((1, 4))
    instances.pred_classes = torch.tensor(classes)
    panoptic_seg = torch.tensor([[1, 2, 3, 0]], dtype=torch.int32)
    return {
        "sem_seg": torch.zeros(5, 1, 4),
        "instances": instances,
        "panoptic_seg": (panoptic_seg, panoptic_infos),
    }


def test_predictions_are_in_the_contiguous_classes():
    model = SimpleNamespace(thing_classes=[2, 5], stuff_classes=[0, 3])
    model._class_of = lambda *a: UnifiedPanopticFPN._class_of(model, *a)
    infos = [
        {"id": 1, "isthing": True, "category_id": 1, "score": 0.9},
        {"id": 2, "isthing": False, "category_id": 1, "area": 1},
        {"id": 3, "isthing": False, "category_id": 2, "area": 1},
    ]
    result = UnifiedPanopticFPN._in_one_range(model, as_if_found([1, 0, 1], infos))
    assert result.keys() == {"instances", "panoptic_seg"}
    assert result["instances"].pred_classes.tolist() == [5, 2, 5]
    panoptic_seg, mapped = result["panoptic_seg"]
    assert panoptic_seg.tolist() == [[1, 2, 3, 0]]
    assert [info["category_id"] for info in mapped] == [5, 0, 3]
    assert [info["id"] for info in mapped] == [1, 2, 3] and mapped[0]["score"] == 0.9


def test_gives_what_detectron2s_model_gives_in_one_range(build_fpn, randomise):
    model = randomise(build_fpn("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 1)).eval()
    model.combine_instances_score_thresh = 0.0
    inputs = [draw_target(64, 96, 0) | {"height": 50, "width": 70}]
    with torch.no_grad():
        (own,) = model(inputs)
        (theirs,) = PanopticFPN.inference(model, inputs)
    assert {info["isthing"] for info in theirs["panoptic_seg"][1]} == {True, False}
    # The shapes have things 0..3 and then stuff.
    assert torch.equal(own["instances"].pred_classes, theirs["instances"].pred_classes)
    assert own["instances"].pred_masks.shape[1:] == (50, 70)
    assert torch.equal(own["panoptic_seg"][0], theirs["panoptic_seg"][0])
    for info, number in zip(own["panoptic_seg"][1], theirs["panoptic_seg"][1], strict=True):
        shift = 0 if info["isthing"] else 3
        assert info["category_id"] == number["category_id"] + shift


def test_results_do_not_depend_on_the_rest_of_the_batch(build_fpn):
    model = build_fpn().eval()
    inputs = [draw_target(64, 96, 0), draw_target(90, 70, 0), draw_target(64, 96, 0)]
    with torch.no_grad():
        together = model(inputs)
        alone = [model([x])[0] for x in inputs]
    for one, other in zip(together, alone):
        assert torch.equal(one["panoptic_seg"][0], other["panoptic_seg"][0])
        assert one["instances"].image_size == other["instances"].image_size
        torch.testing.assert_close(one["instances"].scores, other["instances"].scores)


def test_images_of_one_size_are_run_together_and_order_is_kept():
    sizes = [(4, 6), (6, 4), (4, 6)]
    inputs = [{"image": torch.zeros(3, *size), "name": n} for n, size in enumerate(sizes)]
    groups = []

    def infer(group):
        groups.append([x["name"] for x in group])
        return [{"name": x["name"]} for x in group]

    assert infer_by_size(infer, inputs) == [{"name": 0}, {"name": 1}, {"name": 2}]
    assert groups == [[0, 2], [1]]
    assert infer_by_size(infer, []) == []


def test_a_pyramid_wants_a_backbone_without_dilation(build_fpn):
    model = build_fpn()
    shapes = model.backbone.output_shape()
    assert [shapes[f"p{n}"].stride for n in range(2, 7)] == [4, 8, 16, 32, 64]
    with pytest.raises(UserError, match=r"RES5_DILATION, which is 2, to 1"):
        build_fpn("MODEL.RESNETS.RES5_DILATION", 2)
