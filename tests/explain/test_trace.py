"""What is recorded is what the model computed, and recording changes nothing."""

import json

import pytest
import torch
import torch.nn.functional as F
from merging import merge
from parts import PARTS

from detr_d2.errors import UserError
from detr_d2.explain import trace
from detr_d2.explain.mask_steps import MASK_HEAD_STEPS

SIZES = [(64, 48), (41, 70), (64, 48)]
KEEP_ALL = ("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0)  # but for no-object
MASKS_ON = ("MODEL.DETR.INSTANCES.MASKS_ON", True)


@pytest.fixture(params=PARTS)
def model(request, build_model, randomise):
    overrides = (*KEEP_ALL, *MASKS_ON, *PARTS[request.param])
    model = randomise(build_model("PanopticDETR", *overrides)).eval()
    with torch.no_grad():
        for parameter in model.bbox_attention.parameters():
            parameter.mul_(4)  # maps that differ
        model.class_embed.bias[-1] = -1  # of no-object
    return model


@pytest.fixture
def inputs(draw_input):
    return [draw_input(*size) for size in SIZES]


def plain(outputs: list[dict]) -> list:
    """Tensors, lists and dicts that can be compared."""
    fields = [output["instances"].get_fields() for output in outputs]
    fields = [{k: getattr(v, "tensor", v) for k, v in f.items()} for f in fields]
    return [[f, output.get("panoptic_seg")] for f, output in zip(fields, outputs)]


def attributes_of(model) -> dict:
    return {name: set(vars(module)) for name, module in model.named_modules()}


def assert_identical(a, b):
    torch.testing.assert_close(plain(a), plain(b), rtol=0, atol=0)


@pytest.mark.parametrize("masks_on, masks_per_chunk", [(True, 100), (True, 2), (False, 3)])
def test_results_are_identical_and_nothing_stays_on_the_model(
    model, inputs, masks_on, masks_per_chunk
):
    model.instance_masks_on, model.masks_per_chunk = masks_on, masks_per_chunk
    before = model(inputs)
    attributes = attributes_of(model)
    traced = trace(model, inputs)
    assert_identical([t.output for t in traced], before)
    assert_identical(model(inputs), before)
    assert attributes_of(model) == attributes
    assert not any(m._forward_hooks for m in model.modules())


def test_results_of_box_detr_are_identical(build_model, randomise, inputs):
    model = randomise(build_model("DETR")).eval()
    before = model(inputs)
    traced = trace(model, inputs)
    assert_identical([t.output for t in traced], before)
    assert "maps" not in traced[0]
    assert traced[0]["memory"].shape == (128, 2, 2)
    (first, *_) = traced
    assert not trace(model, inputs, score_threshold=1.0)[0]["kept"].any()
    assert (first["scores"] == first.output["instances"].scores).all()


def test_nothing_stays_on_a_model_that_fails(model):
    attributes = attributes_of(model)
    with pytest.raises(KeyError):
        trace(model, [{"no": "image"}])
    assert attributes_of(model) == attributes
    assert not any(m._forward_hooks for m in model.modules())


def test_a_model_in_training_or_of_another_kind_is_refused(model, inputs):
    with pytest.raises(UserError, match="eval"):
        trace(model.train(), inputs)
    with pytest.raises(UserError, match="Linear"):
        trace(torch.nn.Linear(1, 1), inputs)


@pytest.mark.parametrize("masks_per_chunk", [100, 3])
def test_each_image_of_a_batch_has_its_own_tensors(model, inputs, masks_per_chunk):
    """Images of one size share a pass; also where one dict is given twice."""
    model.masks_per_chunk = masks_per_chunk
    inputs = [*inputs, inputs[0]]
    for image, traced in zip(inputs, trace(model, inputs)):
        (alone,) = trace(model, [image])
        assert list(traced) == list(alone)
        for name in traced:
            torch.testing.assert_close(traced[name], alone[name], rtol=1e-3, atol=1e-4)
        scores = traced.output["instances"].scores
        torch.testing.assert_close(scores, alone.output["instances"].scores, rtol=1e-3, atol=0)


def test_tensors_are_those_of_the_models_public_methods(model, inputs):
    images = model.preprocess(inputs[:1])
    with torch.no_grad():
        predictions = model.predict(images, all_layers=False)
        logits, boxes = predictions.logits[-1], predictions.boxes[-1]
    (traced,) = trace(model, inputs[:1])
    for name, value in predictions.features.items():
        assert torch.equal(traced[name], value[0])
    assert torch.equal(traced["image"], images.tensor[0])
    assert torch.equal(traced["projected"], predictions.projected[0])
    assert torch.equal(traced["memory"], predictions.memory[0])
    assert torch.equal(traced["encoder.0"], predictions.memory[0])  # post-norm, one layer
    assert torch.equal(traced["hs"], predictions.hs[-1, 0])
    norm = model.transformer.decoder.norm
    torch.testing.assert_close(norm(traced["decoder.1"]), predictions.hs[-1, 0], rtol=0, atol=1e-6)
    assert torch.equal(traced["logits"], logits[0])
    assert torch.equal(traced["boxes"], boxes[0])
    positions = model.position_encoding(torch.zeros(1, 2, 2, dtype=torch.bool), torch.float32)
    assert torch.equal(traced["positions"], positions[0])


def attention_by_hand(attention, queries, keys, heads=8):
    """softmax(q k / sqrt(d / M)) in float64, a head at a time."""
    d = queries.shape[1]
    weight, bias = attention.in_proj_weight.double(), attention.in_proj_bias.double()
    q = queries.double() @ weight[:d].T + bias[:d]
    k = keys.double() @ weight[d : 2 * d].T + bias[d : 2 * d]
    c = d // heads
    one = [q[:, m * c : m * c + c] @ k[:, m * c : m * c + c].T for m in range(heads)]
    return (torch.stack(one) / c**0.5).softmax(-1)


def test_attention_weights_are_those_of_the_pass(model, inputs):
    """By hand from the recorded layers; and with values, they give what the module gave."""
    encoder, decoder = model.transformer.encoder.layers[0], model.transformer.decoder.layers[1]
    outputs = {}
    for name, module in (("encoder", encoder.self_attn), ("decoder", decoder.multihead_attn)):
        module.register_forward_hook(lambda m, i, o, name=name: outputs.update({name: (i, o[0])}))
    (traced,) = trace(model, inputs[1:2])
    tokens = (traced["projected"] + traced["positions"]).flatten(1).T
    by_hand = attention_by_hand(encoder.self_attn, tokens, tokens)
    weights = traced["encoder.0.self_attention"]
    assert weights.shape == (8, 6, 6)
    torch.testing.assert_close(weights.double(), by_hand, rtol=0, atol=1e-5)

    cross = traced["decoder.1.cross_attention"]
    assert cross.shape == (8, len(traced["hs"]), 2, 3)
    for name, of_heads, module in (
        ("encoder", weights, encoder.self_attn),
        ("decoder", cross.flatten(2), decoder.multihead_attn),
    ):
        (_, _, values), given = outputs[name]
        d = values.shape[2]
        v = F.linear(values[0], module.in_proj_weight[2 * d :], module.in_proj_bias[2 * d :])
        mixed = torch.einsum("mqs,smc->qmc", of_heads, v.unflatten(1, (8, -1))).flatten(1)
        torch.testing.assert_close(module.out_proj(mixed), given[0], rtol=0, atol=1e-4)

    rows = torch.tensor([4, 0])
    chosen = traced.attentions["encoder.0.self_attention"].weights(rows)
    torch.testing.assert_close(chosen, traced["encoder.0.self_attention"][:, rows])


def test_maps_are_of_the_masked_queries(model, inputs):
    (traced,) = trace(model, inputs[:1])
    queries = traced["mask_queries"]
    assert len(queries)
    maps = model.bbox_attention([traced["hs"][queries]], traced["memory"][None], None)
    assert torch.equal(traced["maps"], maps)
    torch.testing.assert_close(maps.flatten(1).sum(1), torch.ones(len(queries)))


@pytest.mark.parametrize("dc5", [1, 2])
def test_the_plain_mask_head_gives_the_models_logits(build_model, randomise, draw_input, dc5):
    model = build_model("PanopticDETR", *KEEP_ALL, "MODEL.RESNETS.RES5_DILATION", dc5)
    model = randomise(model).double().eval()
    (traced,) = trace(model, [draw_input(75, 101)])
    logits = traced["mask_logits"]
    assert logits.numel()
    steps = traced.mask_head_steps(torch.arange(len(logits)))
    assert list(steps) == MASK_HEAD_STEPS
    torch.testing.assert_close(steps["out_lay"], logits, rtol=1e-9, atol=1e-9)
    assert torch.equal(steps["concatenation"][0, :128], traced["projected"])
    assert torch.equal(steps["concatenation"][:, 128:], traced["maps"])
    assert torch.equal(steps["sum3"], steps["up3"] + model.mask_head.adapter3(traced["res2"]))
    some = traced.mask_head_steps(torch.tensor([0]))
    torch.testing.assert_close(some["lay4"], traced["mask_head.lay4"][:1])


def test_full_mask_logits_give_the_models_panoptic_map(model, inputs):
    model.double()  # the masks are noise, and in float32 rounding decides some pixels
    kept = trace(model, inputs[:1])[0]["scores"].sort().values
    model.panoptic_score_threshold = kept[1].item()  # fewer than have masks
    (traced,) = trace(model, inputs[:1])
    rows = traced["kept"]
    assert 0 < rows.sum() <= len(traced["mask_queries"])
    seg, info = merge(
        traced["full_mask_logits"],
        traced["classes"][rows],
        traced["scores"][rows],
        model.is_thing,
        (64, 48),
        model.merging.small_segment_area,
    )
    assert torch.equal(seg, traced["panoptic_seg"])
    assert info == traced.output["panoptic_seg"][1]


def test_no_query_kept(model, inputs):
    model.panoptic_score_threshold = model.instance_score_threshold = 1.0
    (traced,) = trace(model, inputs[:1])
    assert traced["maps"].shape == (0, 8, 2, 2)
    assert traced["full_mask_logits"].shape == (0, 64, 48)
    described = {row["name"]: row for row in traced.describe()}
    assert described["mask_head.lay5"]["shape"] == [0, 8, 16, 12]
    assert described["mask_head.lay5"]["range"] is None
    assert described["kept"]["range"] == [False, False]


LETTERS_OF_PARTS = {
    "official": {},
    "regions": {"p": 64, "S": 0},
    "proposals": {"p": 64, "S": 4, "N": 9, "R": 14, "A": 5 * 7 + 10 * 13 + 19 * 26},
}
LETTERS = {"d": 128, "M": 8, "N": 5, "C": 8, "C2": 16, "C3": 32, "C4": 64, "C5": 128}


@pytest.mark.parametrize("dc5", [1, 2])
@pytest.mark.parametrize("meta_architecture", ["DETR", "PanopticDETR"])
@pytest.mark.parametrize("parts", PARTS)
def test_letters_and_numbers_of_the_shapes_agree(
    build_model, draw_input, parts, meta_architecture, dc5
):
    overrides = (*KEEP_ALL, *PARTS[parts], "MODEL.RESNETS.RES5_DILATION", dc5)
    model = build_model(meta_architecture, *overrides).eval()
    (traced,) = trace(model, [{**draw_input(75, 101), "height": 60, "width": 50}])
    described = traced.describe()
    assert [row["name"] for row in described] == list(traced)
    letters = {**LETTERS, "H": 75, "W": 101, "H'": 60, "W'": 50}
    letters.update(LETTERS_OF_PARTS[parts])
    if "windows" in traced:
        letters["Q"] = len(traced["windows"])
    if meta_architecture == "PanopticDETR":
        letters.update(K=len(traced["mask_queries"]), P=int(traced["kept"].sum()))
    for row in described:
        assert row["shape"] == numbers_of(row["letters"], letters), row["name"]
        value = traced[row["name"]]
        assert row["shape"] == list(value.shape)
        assert row["dtype"] in str(value.dtype)
        if value.numel():
            least, greatest = row["range"]
            assert least == pytest.approx(value.min().item(), rel=1e-5, abs=1e-5)
            assert greatest == pytest.approx(value.max().item(), rel=1e-5, abs=1e-5)
    json.dumps(described)


def numbers_of(shape: str, letters: dict[str, int]) -> list[int]:
    """ "d x H/32 x (C + 1)" to numbers; halves are rounded up at each level."""

    def number(term: str) -> int:
        term = term.strip("()")
        if "*" in term:
            first, second = term.split("*")
            return number(first) * number(second)
        if "+" in term:
            return sum(number(part.strip()) for part in term.split("+"))
        if "-" in term:
            first, second = term.split("-")
            return number(first.strip()) - number(second.strip())
        letter, _, divisor = term.partition("/")
        value = letters[letter] if letter in letters else int(letter)
        return -(-value // int(divisor or 1))

    return [number(term) for term in shape.split(" x ")]
