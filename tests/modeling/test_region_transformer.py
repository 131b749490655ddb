"""What begins as nothing: with a DETR's weights, the parts that may be added give its results."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.modeling.pyramid import Levels
from detr_d2.modeling.region_transformer import RegionFeatures

PARTS = ("MODEL.DETR.TRANSFORMER", "RegionTransformer", "MODEL.DETR.MASK_HEAD", "RefinedMaskHead")
AS_OFFICIAL = ("MODEL.DETR.SEMANTIC_GAIN", 0.0, "MODEL.DETR.THINGS_IN_WINDOWS", False)
SIZES = ((64, 48), (41, 70), (64, 48))


def test_boxes_are_those_of_the_official_model_at_first(build_model, randomise, draw_input):
    official = randomise(build_model("DETR")).eval()
    model = build_model("DETR", *PARTS[:2]).eval()
    missing, unexpected = model.load_state_dict(official.state_dict(), strict=False)
    assert missing and not unexpected
    inputs = [draw_input(*size) for size in SIZES]
    for found, wanted in zip(model(inputs), official(inputs)):
        found, wanted = found["instances"], wanted["instances"]
        assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)
        assert torch.equal(found.scores, wanted.scores)


def test_masks_are_those_of_the_official_model_at_first(build_model, randomise, draw_input):
    official = randomise(build_model()).eval()
    model = build_model("PanopticDETR", *PARTS, *AS_OFFICIAL).eval()
    model.load_state_dict(official.state_dict(), strict=False)
    inputs = [draw_input(*size) for size in SIZES[:2]]
    with torch.no_grad():
        queries = [torch.arange(5), torch.tensor([1, 3])]
        found, wanted = (
            m.masks(m.predict(m.preprocess(inputs), all_layers=False), queries)
            for m in (model, official)
        )
    assert torch.equal(found, wanted)
    confident = ("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0)
    official = build_model("PanopticDETR", *confident).eval()
    model = build_model("PanopticDETR", *PARTS, *AS_OFFICIAL, *confident).eval()
    model.load_state_dict(official.state_dict(), strict=False)
    for found, wanted in zip(model(inputs), official(inputs)):
        assert torch.equal(found["panoptic_seg"][0], wanted["panoptic_seg"][0])
        assert found["panoptic_seg"][1] == wanted["panoptic_seg"][1]


def test_every_part_is_trained(build_model, draw_input):
    """From the second step on: what begins at zero keeps the gradient from what is before it."""
    model = build_model("PanopticDETR", *PARTS, *AS_OFFICIAL).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = [draw_input(*size) for size in SIZES]
    for _ in range(2):
        optimizer.zero_grad()
        with EventStorage():
            sum(model(batch).values()).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for name in ("regions.0.flat.weight", "regions.1.out.weight", "pyramid.top.weight"):
        assert model.transformer.get_parameter(name).grad.any(), name


@pytest.mark.parametrize("resolution", [1, 3])
def test_region_features_by_hand(resolution):
    """Of a map that is linear in x and y, the points' values are known."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    level = torch.stack((x + 0.5, y + 0.5))[None].double() * 4  # the centre of each cell, pixels
    levels = Levels((level,), (4,), torch.zeros(1, 3, 24, 32))
    features = RegionFeatures(resolution, 2, 5).double()
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.25], [0.4, 0.6, 0.1, 0.2]]]).double()
    sizes = torch.tensor([[32.0, 24.0]]).double()
    found = features(levels, boxes, sizes)
    for box, result in zip(boxes[0].tolist(), found[0]):
        cx, cy, w, h = box
        steps = [(i + 0.5) / resolution - 0.5 for i in range(resolution)]
        points = [((cx + 1.1 * w * a) * 32, (cy + 1.1 * h * b) * 24) for b in steps for a in steps]
        flat = torch.tensor(points).double().flatten()
        hidden = features.norm(flat @ features.flat.weight.T + features.flat.bias).relu()
        wanted = hidden @ features.out.weight.T + features.out.bias
        torch.testing.assert_close(result, wanted)
