"""Hugging Face's losses and ours, and their gradients, are the same from the same weights.

In float64, in which only their building blocks work: `ForSegmentationLoss` makes its class weights
in float32. Their formulas are the official ones, those of masks too.
Seen: relative errors of at most 4e-16 of losses, 2e-14 of gradients.
"""

import pytest
import torch
from small_models import BOXES, PANOPTIC, small_model
from test_huggingface_parity import from_pretrained, image_list, pixel_mask

from detr_d2.checkpoint import Checkpointer, convert, names
from detr_d2.modeling.matcher import Targets

pytest.importorskip(
    "transformers", minversion="5.0", reason="parity is against transformers 5, not installed"
)
hf_loss = pytest.importorskip(
    "transformers.loss.loss_for_object_detection", reason="comes with transformers"
)

SIZES = [(96, 75), (61, 130)]
SEGMENTS = (4, 2)
LAYERS = 3
LOSS_TOLERANCE = 1e-9  # relative
GRADIENT_TOLERANCE = 1e-8  # relative to the largest of the parameter, or this where that is less:
SMALLEST_GRADIENT = 1e-6  # some are 0 but for rounding, such as a bias that a norm takes away


def draw_targets(num_classes: int) -> list[Targets]:
    """Random classes, boxes within the image, and segments that tile the image with VOID."""
    targets = []
    for count, size in zip(SEGMENTS, SIZES):
        extent = torch.rand(count, 2, dtype=torch.float64) * 0.5 + 0.1
        centre = extent / 2 + (1 - extent) * torch.rand(count, 2, dtype=torch.float64)
        segment_map = torch.randint(count + 1, size)
        labels = torch.randint(num_classes, (count,))
        targets.append(Targets(labels, torch.cat((centre, extent), 1), segment_map))
    return targets


def our_losses(model, images, targets, with_masks):
    predictions = model.predict(images, all_layers=True)
    logits, boxes = predictions.logits, predictions.boxes
    matches = model.criterion.matcher(logits, boxes, targets)
    losses = model.criterion.set_losses(logits, boxes, targets, matches)
    if with_masks:
        masks = model.masks(predictions, matches.queries[-1].split(matches.counts))
        size = images.tensor.shape[-2:]
        losses |= model.criterion.mask_losses(masks, targets, matches, size)
    return losses


def their_losses(model, images, targets, with_masks):
    """Weighted, as ours are.

    With `auxiliary_loss`, their decoder gives each layer the *normalised* output of the one before
    and normalises the last output twice; officially, and without `auxiliary_loss`, the norm is
    beside the layers. So theirs runs without, and the outputs of its layers come from hooks.
    """
    config = model.config
    assert not config.auxiliary_loss
    detr = model.detr if with_masks else model
    decoder = detr.model.decoder
    layers = []
    for layer in decoder.layers:
        layer.register_forward_hook(lambda *args: layers.append(args[-1]))
    found = model(pixel_values=images.tensor, pixel_mask=pixel_mask(images))
    hs = decoder.layernorm(torch.stack(layers))
    logits, boxes = detr.class_labels_classifier(hs), detr.bbox_predictor(hs).sigmoid()
    torch.testing.assert_close(logits[-1], found.logits)

    outputs = {
        "logits": found.logits,
        "pred_boxes": found.pred_boxes,
        "auxiliary_outputs": hf_loss._set_aux_loss(logits, boxes),
    }
    weights = {
        "loss_ce": 1,
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
    }
    kinds = ["labels", "boxes"]
    if with_masks:
        outputs["pred_masks"] = found.pred_masks
        weights["loss_mask"] = config.mask_loss_coefficient
        weights["loss_dice"] = config.dice_loss_coefficient
        kinds.append("masks")
    matcher = hf_loss.HungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    criterion = hf_loss.ImageLoss(matcher, config.num_labels, config.eos_coefficient, kinds)
    labels = [
        {
            "class_labels": t.labels,
            "boxes": t.boxes,
            "masks": t.segment_map == torch.arange(1, len(t.labels) + 1)[:, None, None],
        }
        for t in targets
    ]
    losses = criterion.double()(outputs, labels)
    return {name: weights[name.rstrip("_0123456789")] * loss for name, loss in losses.items()}


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def in_our_names(theirs):
    theirs, _ = names.rename(names.strip_prefix(theirs, "detr."), names.HUGGINGFACE_IN_MEMORY)
    theirs, unknown = names.rename(theirs, names.HUGGINGFACE_ANY)
    assert not unknown
    return names.pack_attention(theirs)


@pytest.mark.parametrize(
    ("config_file", "with_masks"), [(BOXES, False), (PANOPTIC, True)], ids=("boxes", "masks")
)
def test_losses_and_gradients(tmp_path, config_file, with_masks):
    ours, cfg = small_model(config_file, {"MODEL.DETR.DEC_LAYERS": LAYERS})
    Checkpointer.from_config(cfg, ours, str(tmp_path)).save("model")
    convert(str(tmp_path / "model.pth"), str(tmp_path / "theirs"), "huggingface")
    theirs = from_pretrained(tmp_path / "theirs").double()
    ours = ours.double()
    # Frozen: ours the stem and Res2, as officially; theirs all of transformers' ResNet, because it
    # looks for "stage.1" in names with "stages.1". So compare the gradients of everything.
    ours.requires_grad_(True)
    theirs.requires_grad_(True)

    images = image_list(SIZES, torch.float64)
    targets = draw_targets(cfg.MODEL.DETR.NUM_CLASSES)
    losses = our_losses(ours, images, targets, with_masks)
    expected = their_losses(theirs, images, targets, with_masks)
    assert losses.keys() == expected.keys()
    assert len(losses) == 3 * LAYERS + 2 * with_masks
    for name, loss in expected.items():
        assert loss > 1e-3, name
        error = abs(losses[name] - loss) / loss
        assert error < LOSS_TOLERANCE, f"{name}: relative error {error:.1e}"

    sum(losses.values()).backward()
    sum(expected.values()).backward()
    found, expected = gradients(ours), in_our_names(gradients(theirs))
    assert found.keys() == expected.keys() == dict(ours.named_parameters()).keys()
    for name, gradient in expected.items():
        largest = gradient.abs().max().clamp(min=SMALLEST_GRADIENT)
        error = (found[name] - gradient).abs().max() / largest
        assert error < GRADIENT_TOLERANCE, f"{name}: relative error {error:.1e}"
