"""How the meta-architectures are built, and what they do before and after the transformer."""

import pytest
import torch
from torch import nn

from detr_d2.errors import UserError
from detr_d2.modeling import POSITION_ENCODING_REGISTRY
from detr_d2.modeling.transformer import Decoded


def test_padding_is_zero_after_normalisation(build_model, draw_input):
    model = build_model("DETR")
    images = model.preprocess([draw_input(4, 6, segments=0), draw_input(5, 3, segments=0)])
    assert images.tensor.shape == (2, 3, 5, 6)
    assert images.image_sizes == [(4, 6), (5, 3)]
    assert images.tensor.is_contiguous(memory_format=torch.channels_last)
    assert not images.tensor[0, :, 4:].any()
    assert not images.tensor[1, :, :, 3:].any()
    white = model.preprocess([{"image": torch.full((3, 1, 1), 255, dtype=torch.uint8)}]).tensor
    # (255 - mean) / std of red.
    assert white[0, 0, 0, 0].item() == pytest.approx((255 - 123.675) / 58.395)


@torch.no_grad()
def test_encoding_is_backbone_projection_and_transformer(build_model, draw_input):
    model = build_model("DETR").eval()
    images = model.preprocess([draw_input(*size) for size in ((64, 48), (41, 70), (96, 80))])
    predictions = model.predict(images, all_layers=True)
    # 96 x 80 pixels are 3 x 3 cells. Nearest takes pixels 0, 32, 64 of the first axis, and
    # 0, 26, 53 of the second.
    mask = torch.zeros(3, 3, 3, dtype=torch.bool)
    mask[0, 2:] = mask[0, :, 2:] = mask[1, 2:] = True
    projected = model.input_proj(model.backbone(images.tensor)["res5"])
    positions = model.position_encoding(mask, torch.float32)
    decoded = model.transformer(projected, mask, model.query_embed.weight, positions)
    assert torch.equal(predictions.padding_mask, mask)
    assert torch.equal(predictions.projected, projected)
    assert torch.equal(predictions.memory, decoded.memory)
    assert torch.equal(predictions.hs, decoded.hs)
    logits, boxes = model.read_heads(decoded)
    assert torch.equal(predictions.logits, logits) and torch.equal(predictions.boxes, boxes)


@torch.no_grad()
def test_predictions_are_linear_classes_and_a_perceptrons_boxes(build_model):
    model = build_model("DETR").double()
    hs = torch.randn(2, 1, 5, 128).double()
    logits, boxes = model.read_heads(Decoded(hs, hs))
    classes = model.class_embed
    torch.testing.assert_close(logits, hs @ classes.weight.T + classes.bias, rtol=0, atol=1e-12)
    first, second, third = model.bbox_embed.layers
    hidden = (hs @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    wanted = 1 / (1 + (-hidden @ third.weight.T - third.bias).exp())
    torch.testing.assert_close(boxes, wanted, rtol=0, atol=1e-12)


@torch.no_grad()
def test_classes_and_boxes_are_predicted_outside_mixed_precision(build_model):
    model = build_model("DETR")
    hs = torch.randn(2, 1, 5, 128)
    wanted = model.read_heads(Decoded(hs, hs))
    with torch.autocast("cpu", torch.bfloat16):
        found = model.read_heads(Decoded(hs, hs))
        from_half = model.read_heads(Decoded(hs.bfloat16(), hs))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))
    assert all(x.dtype == torch.float32 for x in from_half)


@torch.no_grad()
def test_losses_are_float32_in_mixed_precision(build_model, draw_input):
    """Matching and losses of the same predictions are the same inside and outside of it."""
    model = build_model()
    batch = [draw_input(64, 48), draw_input(40, 72, segments=2)]
    targets, criterion = model.targets(batch), model.criterion
    logits, boxes = torch.randn(2, 2, 5, 9), torch.rand(2, 2, 5, 4)

    def losses():
        matches = criterion.matcher(logits, boxes, targets)
        mask_logits = torch.linspace(-3, 3, 5 * 16 * 18).view(5, 16, 18)
        return {
            **criterion.set_losses(logits, boxes, targets, matches),
            **criterion.mask_losses(mask_logits, targets, matches, (64, 72)),
        }

    wanted = losses()
    with torch.autocast("cpu", torch.bfloat16):
        found = losses()
    assert all(torch.equal(found[name], loss) for name, loss in wanted.items())


# Registries and metadata


@POSITION_ENCODING_REGISTRY.register()
class NoPositions(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.d = cfg.MODEL.DETR.HIDDEN_DIM

    def forward(self, padding_mask, dtype):
        return torch.zeros(len(padding_mask), self.d, *padding_mask.shape[1:], dtype=dtype)


def test_a_part_is_swapped_by_its_name(build_model, draw_input):
    model = build_model("PanopticDETR", "MODEL.DETR.POSITION_ENCODING", "NoPositions").eval()
    assert isinstance(model.position_encoding, NoPositions)
    (result,) = model([draw_input(64, 48)])
    assert result["panoptic_seg"][0].shape == (64, 48)


def test_learned_positions_are_trained_and_saved(build_model):
    model = build_model("DETR", "MODEL.DETR.POSITION_ENCODING", "PositionEmbeddingLearned")
    assert "position_encoding.row_embed.weight" in model.state_dict()


def test_things_are_those_of_the_metadata(build_model):
    assert build_model().is_thing.tolist() == [True] * 4 + [False] * 4


def test_without_panoptic_metadata_there_is_no_panoptic_model(build_model):
    for datasets in ((), ("no_such_dataset",)):
        with pytest.raises(UserError, match=r"DATASETS\.(TRAIN|REGISTER)"):
            build_model("PanopticDETR", "DATASETS.TRAIN", datasets)
    build_model("DETR", "DATASETS.TRAIN", ())


def test_metadata_of_the_test_set_serve_where_there_is_no_training_set(build_model):
    model = build_model(
        "PanopticDETR", "DATASETS.TRAIN", (), "DATASETS.TEST", ("shapes_panoptic_val",)
    )
    assert model.is_thing.sum() == 4


def test_too_few_classes_for_the_things_are_refused(build_model):
    with pytest.raises(UserError, match="NUM_CLASSES"):
        build_model("PanopticDETR", "MODEL.DETR.NUM_CLASSES", 3)
