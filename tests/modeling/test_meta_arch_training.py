import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.errors import UserError

SET_LOSSES = {"loss_ce", "loss_bbox", "loss_giou"}
AUXILIARY = {f"{name}_0" for name in SET_LOSSES}
MASK_LOSSES = {"loss_mask", "loss_dice"}
FREEZE = ("MODEL.DETR.FREEZE_DETR", True)


def train_step(model, batched_inputs):
    """The losses of one step, after their gradients."""
    model.train()
    with EventStorage():
        losses = model(batched_inputs)
    sum(losses.values()).backward()
    return losses


@pytest.fixture
def batch(draw_input):
    return [draw_input(64, 48, segments=3), draw_input(40, 72, segments=2)]


@pytest.mark.parametrize(
    "meta_architecture, overrides, names",
    [
        ("DETR", (), SET_LOSSES | AUXILIARY),
        ("PanopticDETR", (), SET_LOSSES | AUXILIARY | MASK_LOSSES),
        ("DETR", ("MODEL.DETR.DEEP_SUPERVISION", False), SET_LOSSES),
        ("PanopticDETR", ("MODEL.DETR.DEEP_SUPERVISION", False), SET_LOSSES | MASK_LOSSES),
        ("PanopticDETR", ("MODEL.RESNETS.RES5_DILATION", 2), SET_LOSSES | AUXILIARY | MASK_LOSSES),
    ],
)
def test_losses_and_gradients(build_model, batch, meta_architecture, overrides, names):
    model = build_model(meta_architecture, *overrides)
    losses = train_step(model, batch)
    assert set(losses) == names
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_detr_trains_without_segment_maps(build_model, batch):
    for x in batch:
        del x["segment_map"]
    assert set(train_step(build_model("DETR"), batch)) == SET_LOSSES | AUXILIARY


@pytest.mark.parametrize("freeze", [(), FREEZE])
@pytest.mark.parametrize("segments", [(0, 0), (0, 3), (7, 0)])
def test_images_without_segments_are_trained_on(build_model, draw_input, segments, freeze):
    """And an image with more segments than queries."""
    model = build_model("PanopticDETR", *freeze)
    losses = train_step(model, [draw_input(48, 64, n) for n in segments])
    assert all(loss.isfinite() for loss in losses.values())
    if not any(segments):
        assert losses["loss_mask"] == losses["loss_dice"] == losses.get("loss_giou", 0) == 0
    # Distributed training waits for the gradient of every parameter that is trained.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_losses_are_the_criterions(build_model, batch):
    """Masks at the padded size, diagnostics of the last layer into the event storage."""
    queries = ("MODEL.DETR.NUM_OBJECT_QUERIES", 6)
    model = build_model("PanopticDETR", *queries, "MODEL.DETR.DROPOUT", 0.0)
    # Layers find the segments' classes 0, 2, 4 with other queries. The first says no-object with
    # the rest, the last says class 7.
    classes = torch.tensor([[[0, 2, 4, 8, 8, 8]], [[7, 7, 7, 0, 2, 4]]])
    leaning = 100.0 * torch.nn.functional.one_hot(classes, 9)
    model.class_embed.register_forward_hook(lambda module, inputs, logits: logits + leaning)
    with torch.no_grad():  # so that masks differ more between queries than in a new model
        model.mask_head.lay1.weight[:, 128:].mul_(100)
    with EventStorage() as storage:
        losses = model(batch)

    predictions = model.predict(model.preprocess(batch), all_layers=True)
    logits, boxes = predictions.logits, predictions.boxes
    targets = model.targets(batch)
    criterion = model.criterion
    matches = criterion.matcher(logits, boxes, targets)
    assert matches.queries[-1].min() >= 3
    masks = model.masks(predictions, matches.queries[-1].split(matches.counts))
    wanted = {
        **criterion.set_losses(logits, boxes, targets, matches),
        **criterion.mask_losses(masks, targets, matches, (64, 72)),
    }
    torch.testing.assert_close(losses, wanted)
    stored = {name: value for name, (value, _) in storage.latest().items()}
    assert stored == pytest.approx(criterion.diagnostics(logits[-1], targets, matches))
    assert stored["cardinality_error"] == ((6 - 3) + (6 - 2)) / 2


def test_targets_are_relative_to_each_image(build_model, draw_input):
    first, second = build_model().targets([draw_input(10, 8, segments=1), draw_input(6, 20)])
    # The right half of the first image, the second and later quarters of the second.
    torch.testing.assert_close(first.boxes, torch.tensor([[0.75, 0.5, 0.5, 1.0]]))
    quarters = [[0.375, 0.5, 0.25, 1.0], [0.625, 0.5, 0.25, 1.0], [0.875, 0.5, 0.25, 1.0]]
    torch.testing.assert_close(second.boxes, torch.tensor(quarters))
    assert second.labels.tolist() == [0, 2, 4]
    assert second.segment_map[0, ::5].tolist() == [0, 1, 2, 3]


def test_training_outside_an_event_storage_is_an_error(build_model, batch):
    with pytest.raises(AssertionError, match="EventStorage"):
        build_model()(batch)


def test_panoptic_training_without_segment_maps_is_refused(build_model, batch):
    del batch[1]["segment_map"]
    with EventStorage(), pytest.raises(UserError, match="segment_map"):
        build_model()(batch)


@pytest.mark.parametrize("freeze", [(), FREEZE])
def test_a_float64_model_trains(build_model, batch, freeze):
    losses = train_step(build_model("PanopticDETR", *freeze).double(), batch)
    assert all(loss.dtype == torch.float64 for loss in losses.values())


def test_overfitting_lowers_every_loss(build_model, batch):
    """Every loss reaches what it is the loss of."""
    model = build_model("PanopticDETR", "MODEL.DETR.DROPOUT", 0.0)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(20):
        optimiser.zero_grad()
        history.append({name: loss.item() for name, loss in train_step(model, batch).items()})
        optimiser.step()
    for name, loss in history[-1].items():
        assert loss < history[0][name], name


# MODEL.DETR.FREEZE_DETR


def is_of_mask_branch(name):
    return name.startswith(("bbox_attention.", "mask_head."))


def test_frozen_detr_trains_the_mask_branch_alone(build_model, batch):
    model = build_model("PanopticDETR", *FREEZE)
    assert set(train_step(model, batch)) == MASK_LOSSES
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == is_of_mask_branch(name), name
        assert (parameter.grad is not None) == is_of_mask_branch(name), name


def test_frozen_detr_stays_in_eval_mode(build_model):
    model = build_model("PanopticDETR", *FREEZE).train()
    assert model.training
    for name, module in model.named_modules():
        if name:
            assert module.training == is_of_mask_branch(f"{name}."), name
    assert not any(module.training for module in model.eval().modules())


def test_without_freezing_everything_is_in_training_mode(build_model):
    assert all(module.training for module in build_model().train().modules())


def test_a_step_leaves_the_frozen_part_as_it_was(build_model, batch):
    """Its parameters, the statistics of its BatchNorm, and what it finds, bit by bit."""
    model = build_model("PanopticDETR", *FREEZE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = model.eval()(batch)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    train_step(model, batch)
    optimiser.step()
    for name, value in model.state_dict().items():
        # Every tensor of the mask branch has changed.
        assert torch.equal(value, before[name]) == (not is_of_mask_branch(name)), name
    for old, new in zip(found, model.eval()(batch)):
        for field in ("scores", "pred_classes"):
            assert torch.equal(old["instances"].get(field), new["instances"].get(field))
        assert torch.equal(old["instances"].pred_boxes.tensor, new["instances"].pred_boxes.tensor)


def test_frozen_detr_trains_without_dropout(build_model, batch):
    """The same step twice has the same losses, though DROPOUT is 0.9."""
    model = build_model("PanopticDETR", *FREEZE, "MODEL.DETR.DROPOUT", 0.9)
    torch.testing.assert_close(train_step(model, batch), train_step(model, batch))


def test_frozen_mask_losses_are_those_of_joint_training(build_model, batch):
    frozen = build_model("PanopticDETR", *FREEZE)
    joint = build_model("PanopticDETR", "MODEL.DETR.DROPOUT", 0.0)
    joint.load_state_dict(frozen.state_dict())
    joint.train()
    joint.backbone.eval()  # BatchNorm as in the frozen model
    with EventStorage():
        losses = joint(batch)
    wanted = {name: losses[name] for name in MASK_LOSSES}
    torch.testing.assert_close(train_step(frozen, batch), wanted)


def test_the_frozen_part_keeps_nothing_for_a_backward_pass(build_model, batch):
    model = build_model("PanopticDETR", *FREEZE).train()
    predictions = model.predict(model.preprocess(batch), all_layers=False)
    for tensor in (
        predictions.hs,
        predictions.memory,
        predictions.projected,
        *predictions.features.values(),
    ):
        assert not tensor.requires_grad
