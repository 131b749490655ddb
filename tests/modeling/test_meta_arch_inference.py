from dataclasses import replace

import pytest
import torch
from detectron2.structures import Instances
from torch import nn

from detr_d2.errors import UserError
from detr_d2.modeling.merging import MergingRule

SIZES = [(64, 48), (41, 70), (96, 80)]


KEEP_ALL = ("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0)  # but for no-object
MASKS_ON = ("MODEL.DETR.INSTANCES.MASKS_ON", True)


@pytest.fixture
def build_lively_model(build_model, draw_input):
    """A function that builds a model in eval mode whose answers depend on image and query.

    A newly drawn one says much the same of all images, for all queries. Here each query leans to
    a class: four to things, and two each to the stuff 4 and 5.
    """
    leaning = 4 * nn.functional.one_hot(torch.tensor([0, 4, 1, 4, 2, 5, 3, 5]), 9)

    def build(meta_architecture, *overrides):
        model = build_model(meta_architecture, "MODEL.DETR.NUM_OBJECT_QUERIES", 8, *overrides)
        weights = [p for p in model.transformer.decoder.parameters() if p.dim() > 1]
        if meta_architecture == "PanopticDETR":
            weights.extend(p for p in model.bbox_attention.parameters() if p.dim() > 1)
            weights.append(model.mask_head.lay1.weight[:, 128:])  # of the attention maps
        with torch.no_grad():
            for weight in weights:
                weight.mul_(4)
            model.class_embed.weight.normal_(std=0.1)
            for _ in range(20):  # statistics of BatchNorm
                model.backbone.train()(model.preprocess([draw_input(64, 64)]).tensor)
        model.class_embed.register_forward_hook(lambda module, inputs, logits: logits + leaning)
        return model.eval()

    return build


@pytest.fixture
def panoptic(build_lively_model):
    """In float64, so that no rounding moves a pixel."""
    return build_lively_model("PanopticDETR", *KEEP_ALL, *MASKS_ON).double()


def assert_same(result, other, rtol=0.0):
    def plain(result):
        fields = result["instances"].get_fields()
        fields = {name: getattr(value, "tensor", value) for name, value in fields.items()}
        return fields, result.get("panoptic_seg", ())

    torch.testing.assert_close(plain(result), plain(other), rtol=rtol, atol=0)


def test_detr_gives_all_queries(build_model, draw_input):
    image = draw_input(64, 48)
    (result,) = build_model("DETR").eval()([{**image, "height": 100, "width": 90}])
    assert set(result) == {"instances"}
    found = result["instances"]
    assert isinstance(found, Instances)
    assert found.image_size == (100, 90)
    assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
    assert found.pred_boxes.tensor.shape == (5, 4)
    assert found.pred_classes.max() < 8
    assert not found.scores.requires_grad


@pytest.mark.parametrize("dc5", [1, 2])
def test_panoptic_results_have_the_documented_form(build_lively_model, draw_input, dc5):
    model = build_lively_model(
        "PanopticDETR", *KEEP_ALL, *MASKS_ON, "MODEL.RESNETS.RES5_DILATION", dc5
    )
    first, second = model([{**draw_input(64, 48), "height": 100, "width": 90}, draw_input(64, 48)])
    for result, size in ((first, (100, 90)), (second, (64, 48))):
        assert set(result) == {"instances", "panoptic_seg"}
        found = result["instances"]
        assert found.image_size == size
        assert found.pred_masks.shape == (len(found), *size)
        assert found.pred_masks.dtype == torch.bool
        # The things of shapes_panoptic are classes 0 to 3.
        assert (found.pred_classes < 4).all()
        panoptic_seg, info = result["panoptic_seg"]
        assert panoptic_seg.shape == size
        assert panoptic_seg.dtype == torch.int32
        assert info
        for number, segment in enumerate(info, 1):
            assert segment["id"] == number
            assert segment["isthing"] is (segment["category_id"] < 4)
            assert segment["area"] == (panoptic_seg == number).sum()
        assert sum(segment["area"] for segment in info) == panoptic_seg.numel()


def test_masks_are_off_unless_asked_for(build_lively_model, draw_input):
    image = draw_input(64, 48)
    model = build_lively_model("PanopticDETR", *KEEP_ALL).double()
    (without,) = model([image])
    model.instance_masks_on = True
    (with_masks,) = model([image])
    assert len(without["instances"])
    assert not without["instances"].has("pred_masks")
    with_masks["instances"].remove("pred_masks")
    assert_same(without, with_masks)


def test_instances_are_the_things_above_the_threshold(panoptic, draw_input):
    image = draw_input(64, 48)
    everything = panoptic([image])[0]["instances"]
    threshold = everything.scores.min().item()
    panoptic.instance_score_threshold = threshold
    (result,) = panoptic([image])
    wanted = everything[everything.scores > threshold]
    assert 0 < len(wanted) < len(everything)
    assert_same({"instances": wanted}, {"instances": result["instances"]})


def test_masks_of_instances_do_not_change_the_panoptic_map(panoptic, draw_input):
    """Masks are taken for the union of both sets of queries; each must get its own rows."""
    image = draw_input(64, 48)
    (low,) = panoptic([image])
    scores = sorted(info["score"] for info in low["panoptic_seg"][1])
    assert len(scores) > 1
    panoptic.panoptic_score_threshold = scores[0]
    (high,) = panoptic([image])
    panoptic.instance_masks_on = False
    (high_without,) = panoptic([image])
    assert torch.equal(low["instances"].pred_masks, high["instances"].pred_masks)
    assert high["panoptic_seg"][1] == high_without["panoptic_seg"][1]
    assert torch.equal(high["panoptic_seg"][0], high_without["panoptic_seg"][0])
    assert high["panoptic_seg"][1] != low["panoptic_seg"][1]


@pytest.mark.parametrize("meta_architecture", ["DETR", "PanopticDETR"])
def test_an_image_is_the_same_alone_and_among_others(
    build_lively_model, draw_input, meta_architecture
):
    model = build_lively_model(meta_architecture, *KEEP_ALL, *MASKS_ON)
    images = [draw_input(*size) for size in SIZES]
    together = model(images)
    for image, result in zip(images, together):
        (alone,) = model([image])
        assert_same(alone, result)
    # The image does count.
    (other,) = model([draw_input(*SIZES[0])])
    assert not torch.equal(other["instances"].scores, together[0]["instances"].scores)


def test_images_of_one_size_share_a_batch_in_their_order(panoptic, draw_input):
    """But for rounding; Detectron2 keeps boxes in float32."""
    images = [draw_input(*size) for size in ((64, 48), (41, 70), (64, 48))]
    images[0].update(height=32, width=24)
    for image, result in zip(images, panoptic(images)):
        (alone,) = panoptic([image])
        assert_same(alone, result, rtol=1e-6)


def predict(model, images):
    return model.predict(model.preprocess(images), all_layers=False)


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@torch.no_grad()
def test_masks_of_kept_queries_are_rows_of_all_masks(panoptic, draw_input, dtype, rtol):
    model = panoptic.to(dtype)
    # In one padded batch, as in training.
    predictions = predict(model, [draw_input(*size) for size in SIZES])
    everything = model.masks(predictions, [torch.arange(8)] * 3).view(3, 8, 24, 20)
    kept = [torch.tensor(rows, dtype=torch.int64) for rows in ([3, 0], [], [7])]
    wanted = torch.cat([masks[rows] for masks, rows in zip(everything, kept)])
    masks = model.masks(predictions, kept)
    assert masks.dtype == dtype
    torch.testing.assert_close(masks, wanted, rtol=rtol, atol=rtol * wanted.abs().max().item())


def test_small_segments_are_removed(panoptic, draw_input):
    image = draw_input(64, 48)
    areas = [info["area"] for info in panoptic([image])[0]["panoptic_seg"][1]]
    panoptic.merging = replace(panoptic.merging, small_segment_area=min(areas))
    assert len(panoptic([image])[0]["panoptic_seg"][1]) < len(areas)


def test_the_official_stuff_rule_is_chosen_by_the_configuration(build_lively_model, draw_input):
    image = draw_input(64, 48)
    rule = "MODEL.DETR.PANOPTIC.OFFICIAL_STUFF_RULE"
    model = build_lively_model("PanopticDETR", *KEEP_ALL, rule, True)
    _, official = model([image])[0]["panoptic_seg"]
    model.merging = replace(model.merging, official_stuff_rule=False)
    _, united = model([image])[0]["panoptic_seg"]
    areas, official_areas = ({i["category_id"]: i["area"] for i in x} for x in (united, official))
    # A stuff class of two queries loses those of the second.
    assert any(official_areas.get(stuff, 0) < areas[stuff] for stuff in (4, 5))


def test_merging_by_scores_is_chosen_by_the_configuration(build_lively_model, draw_input):
    image = {**draw_input(64, 48), "height": 90, "width": 50}
    keys = {"MERGE": "scores", "LEAST_SHARE": 0.1, "SMALL_SEGMENT_AREA": 2}
    overrides = [x for key, v in keys.items() for x in (f"MODEL.DETR.PANOPTIC.{key}", v)]
    model = build_lively_model("PanopticDETR", *KEEP_ALL, *MASKS_ON, *overrides)
    assert model.merging == MergingRule("scores", 2, 0.1)
    (by_scores,) = model([image])
    model.merging = MergingRule("official", 2)
    (official,) = model([image])
    for rule in (by_scores, official):
        assert rule["panoptic_seg"][0].shape == rule["instances"].pred_masks.shape[1:] == (90, 50)
    # Masks of instances are bilinear to the result as well.
    assert not torch.equal(by_scores["instances"].pred_masks, official["instances"].pred_masks)
    assert not torch.equal(by_scores["panoptic_seg"][0], official["panoptic_seg"][0])


@pytest.mark.parametrize("masks_per_chunk", [1, 2, 3, 5])
def test_masks_in_chunks_are_the_masks_at_once(panoptic, draw_input, masks_per_chunk):
    """Also where a chunk has queries of several images."""
    images = [draw_input(41, 70) for _ in range(3)]
    at_once = panoptic(images)
    assert sum(len(result["instances"]) for result in at_once) > 5
    panoptic.masks_per_chunk = masks_per_chunk
    for result, wanted in zip(panoptic(images), at_once, strict=True):
        assert_same(result, wanted, rtol=1e-9)


def test_masks_are_computed_in_chunks_of_the_configuration(build_lively_model, draw_input):
    chunks = ("MODEL.DETR.MASKS_PER_CHUNK", 3)
    model = build_lively_model("PanopticDETR", *KEEP_ALL, *MASKS_ON, *chunks)
    sizes = []
    model.mask_head.register_forward_hook(lambda module, inputs, masks: sizes.append(len(masks)))
    model([draw_input(64, 48), draw_input(64, 48)])
    assert sum(sizes) > 3
    assert max(sizes) == 3


def test_chunks_without_a_mask_are_refused(build_model):
    with pytest.raises(UserError, match="at least 1"):
        build_model("PanopticDETR", "MODEL.DETR.MASKS_PER_CHUNK", 0)


def test_mixed_precision_answers_as_float32(build_lively_model, draw_input):
    model = build_lively_model("PanopticDETR", *KEEP_ALL, *MASKS_ON)
    image = draw_input(64, 48)
    (single,) = model([image])
    with torch.autocast("cpu", torch.bfloat16):
        (mixed,) = model([image])
    for name in ("scores", "pred_boxes"):
        found, wanted = (
            getattr(result["instances"].get(name), "tensor", result["instances"].get(name))
            for result in (mixed, single)
        )
        assert found.dtype == torch.float32
        assert not torch.equal(found, wanted)
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.5)
    masks, wanted = (result["instances"].pred_masks for result in (mixed, single))
    assert (masks == wanted).float().mean() > 0.9


@pytest.mark.parametrize("masks_on", [False, True])
def test_no_query_kept(build_model, draw_input, masks_on):
    model = build_model(
        "PanopticDETR",
        *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 1.0),
        *("MODEL.DETR.INSTANCES.SCORE_THRESHOLD", 1.0),
        *("MODEL.DETR.INSTANCES.MASKS_ON", masks_on),
    ).eval()
    (result,) = model([{**draw_input(64, 48), "height": 30, "width": 20}])
    panoptic_seg, info = result["panoptic_seg"]
    assert torch.equal(panoptic_seg, torch.zeros(30, 20, dtype=torch.int32))
    assert info == []
    assert len(result["instances"]) == 0
    if masks_on:
        assert result["instances"].pred_masks.shape == (0, 30, 20)


def test_a_float64_model_answers_as_in_float32(panoptic, draw_input):
    image = draw_input(64, 48)
    double = panoptic([image])[0]["instances"]
    single = panoptic.float()([image])[0]["instances"]
    assert single.scores.dtype == torch.float32
    assert double.scores.dtype == torch.float64
    assert torch.equal(single.pred_classes, double.pred_classes)
    torch.testing.assert_close(single.scores.double(), double.scores, rtol=1e-4, atol=0)
