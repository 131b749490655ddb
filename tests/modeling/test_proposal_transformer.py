import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage

from detr_d2.data.registration import register_with_categories
from detr_d2.modeling.dense_head import propose
from detr_d2.modeling.query_boxes import corrected, jittered, sine_of_boxes

D, HEADS = 128, 8
THINGS, STUFF = [0, 1, 2, 3], [4, 5, 6, 7]  # of the shapes; 8 is no-object
PROPOSALS, FURTHER, FURTHER_MASKS = 5, 6, 2
ENLARGED = 1.1  # times a box: what a decoder layer sees
SMALLEST = 0.004  # of the image, sides of proposed boxes
SMALL = (
    *("MODEL.DETR.TRANSFORMER", "ProposalTransformer"),
    *("MODEL.DETR.NUM_OBJECT_QUERIES", PROPOSALS),
    *("MODEL.DETR.PROPOSALS.FURTHER_QUERIES", FURTHER),
    *("MODEL.DETR.PROPOSALS.FURTHER_MASKS", FURTHER_MASKS),
    *("MODEL.DETR.PYRAMID_CHANNELS", 16),
    *("MODEL.DETR.REGION_RESOLUTION", 3),
    *("MODEL.DETR.DROPOUT", 0.0),
)
PANOPTIC = (
    *("MODEL.DETR.MASK_HEAD", "RefinedMaskHead"),
    *("MODEL.DETR.WINDOW_RESOLUTION", 4),
)
KEEP_ALL = ("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", 0.0)  # but for no-object
MASKS_ON = ("MODEL.DETR.INSTANCES.MASKS_ON", True)
SIZES = [(64, 48), (41, 70), (64, 48), (72, 64)]


@pytest.fixture
def build_lively_model(build_model, randomise):
    """A function that builds a model in eval mode and float64 whose answers depend on the image:
    a new one gives all cells much the same boxes and classes, and corrects no box."""

    def build(meta_architecture, *overrides):
        model = build_model(meta_architecture, *SMALL, *overrides)
        randomise(model.transformer)
        dense_head = model.transformer.dense_head
        with torch.no_grad():
            dense_head.class_logits.weight.normal_()
            dense_head.sides.weight.normal_(std=0.3)
            dense_head.sides.bias.fill_(0.5)
            model.class_embed.weight.normal_(std=0.1)
            for layer in model.bbox_embed.layers:
                layer.weight.normal_(std=0.1)
        return model.double().eval()

    return build


@pytest.fixture
def model(build_lively_model):
    return build_lively_model("DETR")


@pytest.fixture
def batch(draw_input):
    """Two images of two sizes, with two things and one stuff, and with three and two."""
    return [draw_input(64, 48, segments=3), draw_input(40, 72, segments=5)]


def predict(model, batch, with_targets=False, all_layers=True):
    targets = model.targets(batch) if with_targets else None
    return model.predict(model.preprocess(batch), all_layers, targets)


def size_of(x):
    """(width, height)."""
    return tuple(x["image"].shape[:0:-1])


# A plain reference: one image, one layer, one head at a time.


def linear(module, x):
    return x @ module.weight.T + module.bias


def layer_norm(module, x):
    centred = x - x.mean(1, keepdim=True)
    variance = (centred**2).mean(1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * module.weight + module.bias


def attention(module, queries, keys, values, hidden):
    q, k, v = (
        x @ weight.T + bias
        for x, weight, bias in zip(
            (queries, keys, values), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        )
    )
    heads = []
    for head in range(HEADS):
        part = slice(head * D // HEADS, (head + 1) * D // HEADS)
        weights = (q[:, part] @ k[:, part].T / math.sqrt(D / HEADS)).exp()
        weights[:, hidden] = 0
        heads.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
    return linear(module.out_proj, torch.cat(heads, 1))


def decoder_layer(layer, x, places, memory, keys, padding, region):
    def attend(x):
        nowhere = torch.zeros(len(x), dtype=torch.bool)
        return attention(layer.self_attn, x + places, x + places, x, nowhere)

    def look(x):
        return attention(layer.multihead_attn, x + places, keys, memory, padding) + region

    def feed_forward(x):
        return linear(layer.linear2, linear(layer.linear1, x).clamp(min=0))

    for norm, block in ((layer.norm1, attend), (layer.norm2, look), (layer.norm3, feed_forward)):
        before = layer_norm(norm, x) if layer.pre_norm else x
        x = x + block(before)
        x = x if layer.pre_norm else layer_norm(norm, x)
    return x


def proposed_box(box, width, height):
    """(x0, y0, x1, y1), pixels -> relative (cx, cy, w, h) of what is inside of the image."""
    x0, x1 = (min(max(x / width, 0), 1) for x in (box[0], box[2]))
    y0, y1 = (min(max(y / height, 0), 1) for y in (box[1], box[3]))
    return [(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, SMALLEST), max(y1 - y0, SMALLEST)]


def sines(box):
    """(d,): of each coordinate d / 8 sines, then as many cosines."""
    values = []
    for place in box:
        angles = [place * math.pi * 2 ** (6 * i / (D // 8)) for i in range(D // 8)]
        values += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values, dtype=torch.float64)


def corrected_box(deltas, box):
    dx, dy, dw, dh = (min(max(x, -3), 3) / 2 for x in deltas)
    cx, cy, w, h = box
    found = cx + dx * w, cy + dy * h, w * math.exp(dw), h * math.exp(dh)
    return [min(max(x, 1e-4), 1) for x in found]


def region_of(regions, finest, box, width, height):
    """(d,): 3 x 3 points in the box, sampled from the finest map, of H/4."""
    cx, cy, w, h = box
    w, h = ENLARGED * w, ENLARGED * h
    along = torch.tensor([1 / 6, 3 / 6, 5 / 6], dtype=torch.float64)
    x, y = (cx - w / 2 + along * w) * width, (cy - h / 2 + along * h) * height
    extent = 4 * torch.tensor(finest.shape[:0:-1])
    points = torch.stack((x.expand(3, 3), y[:, None].expand(3, 3)), -1)
    seen = F.grid_sample(
        finest[None], 2 * points[None] / extent - 1, padding_mode="border", align_corners=False
    )
    seen = linear(regions.flat, seen[0].permute(1, 2, 0).flatten()[None])
    return linear(regions.out, layer_norm(regions.norm, seen).clamp(min=0))[0]


def decode_image(model, batch, predictions, image):
    """Of one image of the batch: (L, N, d), (L, N, 4) references, (N, C + 1) class prior."""
    transformer, decoded = model.transformer, predictions.decoded
    width, height = size_of(batch[image])
    mask = predictions.padding_mask
    if mask is None:
        mask = torch.zeros(
            len(predictions.memory), *predictions.memory.shape[-2:], dtype=torch.bool
        )
    positions = model.position_encoding(mask, torch.float64)[image].flatten(1).T
    memory, padding = predictions.memory[image].flatten(1).T, mask[image].flatten()
    cells = decoded.cells
    chosen = propose(cells, PROPOSALS, transformer.nms_threshold)[image]

    to_content, norm = transformer.content
    content = layer_norm(norm, linear(to_content, cells.features[image, chosen]))
    x = torch.cat((torch.zeros(len(STUFF), D).double(), content))
    boxes = [[0.5, 0.5, 1.0, 1.0]] * len(STUFF)
    boxes += [proposed_box(box, width, height) for box in cells.boxes[image, chosen].tolist()]
    prior = torch.full((len(boxes), 9), -1e4).double()
    prior[:, 8] = 0
    for query, class_ in enumerate(STUFF):
        prior[query, class_] = 0
    prior[len(STUFF) :, THINGS] = cells.logits[image, chosen]

    outputs, references = [], []
    first, _, second = transformer.box_position
    for layer, regions in zip(transformer.decoder.layers, transformer.regions, strict=True):
        places, region = [], []
        for query, box in enumerate(boxes):
            if query < len(STUFF):
                places.append(model.query_embed.weight[query])
                region.append(torch.zeros(D).double())
            else:
                places.append(linear(second, linear(first, sines(box)).clamp(min=0)))
                finest = decoded.levels.maps[-1][image]
                region.append(region_of(regions, finest, box, width, height))
        places, region = torch.stack(places), torch.stack(region)
        x = decoder_layer(layer, x, places, memory, memory + positions, padding, region)
        outputs.append(layer_norm(transformer.decoder.norm, x))
        references.append(torch.tensor(boxes, dtype=torch.float64))
        deltas = model.bbox_embed(outputs[-1]).tolist()
        boxes = [corrected_box(*pair) for pair in zip(deltas, boxes)]
    return torch.stack(outputs), torch.stack(references), prior


@pytest.mark.parametrize("pre_norm", [False, True])
@torch.no_grad()
def test_decoder_is_that_of_a_plain_reference(build_lively_model, batch, pre_norm):
    model = build_lively_model("DETR", "MODEL.DETR.PRE_NORM", pre_norm)
    predictions = predict(model, batch)
    decoded = predictions.decoded
    assert decoded.hs.shape == (2, 2, len(STUFF) + PROPOSALS, D)
    assert decoded.num_queries == len(STUFF) + PROPOSALS
    for image in range(2):
        hs, references, prior = decode_image(model, batch, predictions, image)
        torch.testing.assert_close(decoded.hs[:, image], hs, rtol=0, atol=1e-9)
        torch.testing.assert_close(decoded.references[:, image], references, rtol=0, atol=1e-9)
        logits = hs @ model.class_embed.weight.T + model.class_embed.bias + prior
        torch.testing.assert_close(predictions.logits[:, image], logits, rtol=0, atol=1e-9)
        for layer in range(2):
            rows = zip(model.bbox_embed(hs[layer]).tolist(), references[layer].tolist())
            boxes = torch.tensor([corrected_box(*row) for row in rows], dtype=torch.float64)
            torch.testing.assert_close(predictions.boxes[layer, image], boxes, rtol=0, atol=1e-9)
    # Layers do correct boxes, and images are told apart.
    assert (decoded.references[1] - decoded.references[0]).abs().amax(-1).min() > 1e-4
    assert (decoded.hs[:, 0] - decoded.hs[:, 1]).abs().max() > 0.01


@torch.no_grad()
def test_the_last_layer_alone_is_the_last_of_all_layers(model, batch):
    everything, last = predict(model, batch), predict(model, batch, all_layers=False)
    assert len(last.hs) == len(last.decoded.references) == 1
    assert torch.equal(last.hs[0], everything.hs[-1])
    for name in ("logits", "boxes"):  # products of other numbers of rows are rounded otherwise
        found, wanted = getattr(last, name)[0], getattr(everything, name)[-1]
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_some_images_of_what_is_decoded(model, batch):
    decoded = predict(model, batch).decoded
    second = decoded.of_images(slice(1, 2))
    assert torch.equal(second.hs, decoded.hs[:, 1:])
    assert torch.equal(second.memory, decoded.memory[1:])
    assert torch.equal(second.references, decoded.references[:, 1:])
    assert torch.equal(second.class_prior, decoded.class_prior[1:])
    for level, whole in zip(second.levels.maps, decoded.levels.maps):
        assert torch.equal(level, whole[1:])
    assert second.num_queries == decoded.num_queries


# What queries may say


@torch.no_grad()
def test_queries_say_what_they_are_for_alone(model, batch):
    probabilities = predict(model, batch).logits.softmax(-1)
    for query in range(len(STUFF) + PROPOSALS):
        classes = [STUFF[query]] if query < len(STUFF) else THINGS
        may_say = torch.zeros(9, dtype=torch.bool)
        may_say[[*classes, 8]] = True
        assert (probabilities[:, :, query] > 0).equal(may_say.expand(2, 2, -1))


@torch.no_grad()
def test_results_of_queries_follow_their_kind(build_lively_model, draw_input):
    """The panoptic map has each stuff class once at most, `instances` has things."""
    model = build_lively_model("PanopticDETR", *PANOPTIC, *KEEP_ALL, *MASKS_ON)
    with torch.no_grad():
        model.class_embed.bias[8] = -5.0
    (result,) = model([draw_input(64, 48)])
    assert len(result["instances"]) == PROPOSALS
    assert set(result["instances"].pred_classes.tolist()) <= set(THINGS)
    stuff = [info["category_id"] for info in result["panoptic_seg"][1] if not info["isthing"]]
    assert stuff
    assert len(set(stuff)) == len(stuff)


# Boxes


def test_corrected_by_hand():
    boxes = torch.tensor([[0.5, 0.4, 0.2, 0.1]] * 4).double()
    log2 = 2 * math.log(2)
    deltas = torch.tensor(
        [
            [0.0, 0.0, 0.0, 0.0],
            [1.0, -2.0, log2, -log2],
            [2.0, 50.0, -50.0, 0.0],  # 3 at most
            [0.0, -3.0, 3.0, 3.0],
        ]
    ).double()
    e = math.exp(1.5)
    wanted = torch.tensor(
        [
            [0.5, 0.4, 0.2, 0.1],
            [0.6, 0.3, 0.4, 0.05],
            [0.7, 0.55, 0.2 / e, 0.1],
            [0.5, 0.25, 0.2 * e, 0.1 * e],
        ]
    ).double()
    torch.testing.assert_close(corrected(deltas, boxes), wanted)
    torch.testing.assert_close(corrected(deltas[None], boxes[None]), wanted[None])
    # Never beyond the image, never without area.
    large = torch.tensor([[1.0, 0.0, 1.0, 1e-4]]).double()
    towards = torch.tensor([[1.0, -1.0, 1.0, -3.0]]).double()
    assert corrected(towards, large).tolist() == [[1.0, 1e-4, 1.0, 1e-4]]


def test_a_correction_means_the_same_at_every_size():
    deltas = torch.tensor([[0.3, -0.7, 0.2, -0.4]] * 2).double()
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.04, 0.02]]).double()
    large, small = corrected(deltas, boxes) - torch.tensor([0.5, 0.5, 0.0, 0.0])
    torch.testing.assert_close(large, 10 * small)


def test_sines_by_hand():
    # d = 16: two frequencies, half a period and 8 times as much.
    found = sine_of_boxes(torch.tensor([[0.5, 1.0, 0.25, 0.0]]).double(), 16)
    half = math.sqrt(0.5)
    wanted = [1, 0, 0, 1, 0, 0, -1, 1, half, 0, half, 1, 0, 0, 1, 1]
    wanted = torch.tensor([wanted], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_sines_equal_a_plain_loop():
    boxes = torch.rand(2, 3, 4).double()
    found = sine_of_boxes(boxes, D)
    assert found.shape == (2, 3, D)
    for box, row in zip(boxes.view(-1, 4).tolist(), found.view(-1, D)):
        torch.testing.assert_close(row, sines(box), rtol=0, atol=1e-12)


def test_jitter_has_its_bounds_and_reaches_them():
    boxes = torch.tensor([[0.5, 0.4, 0.2, 0.1]]).double().expand(20000, -1)
    found = jittered(boxes)
    moved = (found[:, :2] - boxes[:, :2]) / boxes[:, 2:]
    grown = (found[:, 2:] / boxes[:, 2:]).log()
    for values, bound in ((moved, 0.3), (grown, 0.4)):
        for low, high, mean in zip(values.amin(0), values.amax(0), values.mean(0)):
            assert -bound <= low.item() < -0.99 * bound
            assert 0.99 * bound < high.item() <= bound
            assert abs(mean.item()) < 0.02 * bound
    # The four are drawn each for itself.
    correlation = torch.corrcoef(torch.cat((moved, grown), 1).T) - torch.eye(4)
    assert correlation.abs().max() < 0.03


def test_jittered_boxes_have_an_area_and_are_in_the_image():
    boxes = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.0, 0.0]]).double().repeat(50, 1)
    found = jittered(boxes)
    assert found.min() >= SMALLEST
    assert found.max() <= 1
    assert jittered(boxes[:0]).shape == (0, 4)


def test_a_proposed_box_ends_at_its_image(model, batch):
    """And has an area, also where all of it is beyond the border."""
    cells = predict(model, batch).decoded.cells
    sizes = torch.tensor([size_of(x) for x in batch]).double()
    boxes = [[-50.0, -9.0, 12.0, 500.0], [-20.0, 10.0, -5.0, 10.0], [6.0, 8.0, 12.0, 24.0]]
    with torch.no_grad():
        cells.boxes[:, :3] = torch.tensor(boxes).double()
    queries = model.transformer.queries_of(cells, torch.tensor([[0, 1, 2]] * 2), sizes)
    for image, x in enumerate(batch):
        wanted = [proposed_box(box, *size_of(x)) for box in boxes]
        torch.testing.assert_close(queries.boxes[image], torch.tensor(wanted).double())


# Further queries, of training alone


def test_without_targets_there_are_none(model, batch):
    decoded = predict(model, batch).decoded
    assert decoded.further is None
    assert decoded.assignment is None


@torch.no_grad()
def test_queries_are_the_same_with_and_without_further_ones(model, batch):
    without, predictions = predict(model, batch), predict(model, batch, with_targets=True)
    assert len(predictions.decoded.further.queries) > FURTHER
    assert predictions.hs.shape[2] == without.hs.shape[2] + FURTHER
    for name in ("hs", "logits", "boxes"):
        own = predictions.decoded.own(getattr(predictions, name))
        torch.testing.assert_close(own, getattr(without, name), rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_further_query_is_seen_by_itself_alone(model, batch, monkeypatch):
    torch.manual_seed(1)
    before = predict(model, batch, with_targets=True)
    further_queries = model.transformer.further_queries

    def another(*arguments):
        queries, further = further_queries(*arguments)
        queries.content[0, 2] += torch.randn(D)
        queries.boxes[0, 2] *= 0.5
        return queries, further

    monkeypatch.setattr(model.transformer, "further_queries", another)
    torch.manual_seed(1)
    after = predict(model, batch, with_targets=True)
    change = (after.hs - before.hs).abs().amax(-1)
    changed = before.decoded.num_queries + 2
    assert (change[:, 0, changed] > 0.01).all()
    change[:, 0, changed] = 0
    assert change.max() < 1e-10


@torch.no_grad()
def test_further_queries_do_not_see_the_others(model, batch, monkeypatch):
    torch.manual_seed(1)
    before = predict(model, batch, with_targets=True)
    stuff_queries = model.transformer.stuff_queries

    def others(cells):
        queries = stuff_queries(cells)
        queries.content.add_(torch.linspace(-1, 1, D))
        return queries

    monkeypatch.setattr(model.transformer, "stuff_queries", others)
    torch.manual_seed(1)
    after = predict(model, batch, with_targets=True)
    # The same cells and boxes were drawn for them.
    further, other = before.decoded.further, after.decoded.further
    assert torch.equal(further.targets, other.targets)
    assert torch.equal(before.decoded.references[0], after.decoded.references[0])
    change = (after.hs - before.hs).abs().amax(-1)
    own = before.decoded.num_queries
    assert (change[:, :, :own] > 1e-3).all()
    assert change[:, :, own:].max() < 1e-10


@torch.no_grad()
def test_further_queries_begin_as_cells_of_their_thing(model, batch):
    """With the cell's content and class, and with its box or the thing's own, jittered."""
    own = predicted = 0
    for _ in range(20):
        predictions = predict(model, batch, with_targets=True)
        decoded, targets = predictions.decoded, model.targets(batch)
        assignment, further, cells = decoded.assignment, decoded.further, decoded.cells
        true = torch.cat([t.boxes for t in targets])
        assert further.images.tolist() == sorted(further.images.tolist())
        counts = assignment.images.bincount(minlength=2).clamp(max=FURTHER)
        assert further.images.bincount(minlength=2).equal(counts)
        for image, query, target in zip(further.images, further.queries, further.targets):
            assert decoded.num_queries <= query < decoded.num_queries + FURTHER
            mine = (assignment.images == image) & (assignment.targets == target)
            rows = assignment.cells[mine]
            prior = decoded.class_prior[image, query, THINGS]
            (same,) = (cells.logits[image, rows] == prior).all(1).nonzero().T
            assert len(same) == 1
            box = decoded.references[0, image, query]
            size = size_of(batch[image])
            of_cell = proposed_box(cells.boxes[image, rows[same[0]]].tolist(), *size)
            if box.tolist() == pytest.approx(of_cell):
                predicted += 1
            else:
                own += 1
                assert ((box - true[target])[:2].abs() <= 0.3 * true[target, 2:] + 1e-9).all()
                longest = (true[target, 2:] * math.exp(0.4)).clamp(max=1)
                assert (box[2:] >= true[target, 2:] * math.exp(-0.4) - 1e-9).all()
                assert (box[2:] <= longest + 1e-9).all()
        # One query, one pair.
        pairs = list(zip(further.images.tolist(), further.queries.tolist()))
        assert len(set(pairs)) == len(pairs)
    assert 0.35 < own / (own + predicted) < 0.65


@pytest.mark.parametrize("most", [0, 1, FURTHER, 100])
@torch.no_grad()
def test_pairs_with_further_ones_are_consistent(model, batch, draw_input, most):
    """Also with an image that has no further query."""
    batch = [batch[0], draw_input(32, 32, segments=0), batch[1]]
    model.transformer.num_further_masks = most
    predictions = predict(model, batch, with_targets=True)
    decoded, targets = predictions.decoded, model.targets(batch)
    logits, boxes = decoded.own(predictions.logits), decoded.own(predictions.boxes)
    before = model.criterion.matcher(logits, boxes, targets)
    matches = decoded.with_further(before)

    assert matches.images.tolist() == sorted(matches.images.tolist())
    assert matches.counts == matches.images.bincount(minlength=3).tolist()
    assert all(isinstance(count, int) for count in matches.counts)
    assert matches.queries.shape == matches.targets.shape == (1, len(matches.images))
    assert matches.cost == before.cost

    def triples(images, queries, targets):
        return list(zip(images.tolist(), queries.tolist(), targets.tolist()))

    pairs = triples(matches.images, matches.queries[0], matches.targets[0])
    further = decoded.further
    of_further = set(triples(further.images, further.queries, further.targets))
    added = [pair for pair in pairs if pair[1] >= decoded.num_queries]
    assert set(added) <= of_further
    assert len(set(added)) == len(added)
    matched = triples(before.images, before.queries[-1], before.targets[-1])
    assert [pair for pair in pairs if pair not in of_further] == matched
    starts = torch.tensor([0] + [len(t.labels) for t in targets]).cumsum(0)
    for image in range(3):
        available = int((further.images == image).sum())
        assert len([pair for pair in added if pair[0] == image]) == min(most, available)
    for image, _, target in pairs:
        assert starts[image] <= target < starts[image + 1]
    assert not (further.images == 1).any()


# Results


def assert_same(result, other):
    def plain(result):
        fields = result["instances"].get_fields()
        fields = {name: getattr(value, "tensor", value) for name, value in fields.items()}
        return fields, result.get("panoptic_seg", ())

    torch.testing.assert_close(plain(result), plain(other), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "meta_architecture, overrides",
    [
        ("DETR", ()),
        ("PanopticDETR", (*PANOPTIC, *KEEP_ALL, *MASKS_ON)),
        ("PanopticDETR", (*KEEP_ALL, *MASKS_ON)),  # DETR's own mask head
        ("PanopticDETR", (*PANOPTIC, *KEEP_ALL, *MASKS_ON, "MODEL.DETR.MASKS_PER_CHUNK", 3)),
    ],
)
def test_an_image_is_the_same_alone_and_among_others(
    build_lively_model, draw_input, meta_architecture, overrides
):
    model = build_lively_model(meta_architecture, *overrides)
    images = [draw_input(*size) for size in SIZES]
    together = model(images)
    for image, result in zip(images, together, strict=True):
        assert len(result["instances"]) >= (PROPOSALS if meta_architecture == "DETR" else 1)
        (alone,) = model([image])
        assert_same(alone, result)
    # The image does count.
    assert not torch.equal(together[0]["instances"].scores, together[2]["instances"].scores)


# Training


def draw_labelled(draw_input, labels, sizes=((64, 48), (40, 72), (48, 48))):
    batch = []
    for classes, size in zip(labels, sizes):
        x = draw_input(*size, segments=len(classes))
        x["instances"].gt_classes = torch.tensor(classes, dtype=torch.int64)
        batch.append(x)
    return batch


def train_step(model, batch):
    """The losses of one step, after their gradients."""
    model.train()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses


def assert_trained(model, losses):
    for name, loss in losses.items():
        assert loss.shape == (), name
        assert loss.isfinite(), name
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


LABELS = {
    "both": [[0, 4, 1], [5, 2], [3]],
    "things alone": [[0, 2, 2], [1, 3], [0]],
    "stuff alone": [[4, 5], [7], [6, 4, 5]],
    "stuff of one class": [[4, 4], [4]],
    "no segment": [[], [], []],
    "no segment in one image": [[0, 4], [], [5]],
    "one image without segments": [[]],
    "more things than queries": [[0, 1, 2, 3, 0, 1, 2, 3, 4]],
}
MODELS = {
    "boxes": ("DETR",),
    "boxes and masks": ("PanopticDETR", *PANOPTIC),
    "the last layer": ("PanopticDETR", *PANOPTIC, "MODEL.DETR.DEEP_SUPERVISION", False),
    "DETR's mask head": ("PanopticDETR",),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
def test_all_kinds_of_images_are_trained_on(build_model, draw_input, arguments, labels):
    model = build_model(*arguments, *SMALL)
    losses = train_step(model, draw_labelled(draw_input, labels))
    assert {"loss_ce", "loss_dense_class", "loss_ce_further"} <= set(losses)
    assert_trained(model, losses)


def test_tiny_things_are_trained_on(build_model, draw_input):
    """Of a pixel and of none, at the corners of the image."""
    model = build_model("PanopticDETR", *SMALL, *PANOPTIC)
    (x,) = draw_labelled(draw_input, [[0, 1, 2, 3]])
    x["instances"].gt_boxes.tensor = torch.tensor(
        [[0, 0, 1, 1], [47, 63, 48, 64], [48, 64, 48, 64], [0, 64, 48, 64]]
    ).float()
    assert_trained(model, train_step(model, [x]))


def test_the_frozen_part_is_not_trained(build_model, batch):
    model = build_model("PanopticDETR", *SMALL, *PANOPTIC, "MODEL.DETR.FREEZE_DETR", True)
    losses = train_step(model, batch)
    assert_trained(model, losses)
    assert not {"loss_ce", "loss_dense_class", "loss_ce_further"} & set(losses)
    for name, parameter in model.named_parameters():
        trained = name.startswith(("bbox_attention.", "mask_head."))
        assert (parameter.grad is not None) == trained, name


def test_a_float64_model_trains(build_model, batch):
    model = build_model("PanopticDETR", *SMALL, *PANOPTIC).double()
    losses = train_step(model, batch)
    assert_trained(model, losses)
    assert all(loss.dtype == torch.float64 for loss in losses.values())


def test_mixed_precision_trains(build_model, batch):
    model = build_model("PanopticDETR", *SMALL, *PANOPTIC)
    with torch.autocast("cpu", torch.bfloat16):
        losses = train_step(model, batch)
    assert_trained(model, losses)
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_overfitting_lowers_every_loss(build_model, batch):
    """Every loss reaches what it is the loss of."""
    model = build_model("PanopticDETR", *SMALL, *PANOPTIC)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(40):
        optimiser.zero_grad()
        history.append({name: loss.item() for name, loss in train_step(model, batch).items()})
        optimiser.step()
    for name in history[0]:
        # Further queries are others in each step.
        before, after = (sum(losses[name] for losses in x) for x in (history[:4], history[-4:]))
        assert after < before, name


# Datasets of one kind


@pytest.fixture(params=[1, 0], ids=["things", "stuff"])
def one_kind(request):
    """A dataset of three classes, all things or all stuff."""
    name = "one_kind_train"
    categories = [{"id": i, "name": f"class {i}", "isthing": request.param} for i in (10, 20, 30)]
    register_with_categories(name, "", "", "", categories)
    yield ("DATASETS.TRAIN", (name,), "MODEL.DETR.NUM_CLASSES", 3)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.mark.parametrize("arguments", [("DETR",), ("PanopticDETR", *PANOPTIC, *MASKS_ON)])
@pytest.mark.parametrize("labels", [[[0, 2], [1]], [[], []]])
def test_one_kind_of_class_is_trained_on_and_found(
    build_model, draw_input, one_kind, arguments, labels
):
    model = build_model(*arguments, *SMALL, *one_kind, *KEEP_ALL)
    batch = draw_labelled(draw_input, labels)
    assert_trained(model, train_step(model, batch))
    with torch.no_grad():
        model.class_embed.bias[3] = -20.0  # no-object
    for result, x in zip(model.eval()(batch), batch, strict=True):
        assert result["instances"].image_size == tuple(x["image"].shape[1:])
        if "panoptic_seg" in result:
            panoptic_seg, info = result["panoptic_seg"]
            assert panoptic_seg.shape == x["image"].shape[1:]
            assert info
            assert {segment["isthing"] for segment in info} == {len(model.is_thing.nonzero()) == 3}
