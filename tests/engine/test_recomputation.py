"""Gradients with less memory are those of before."""

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.engine.recomputation import recompute_activations
from detr_d2.errors import UserError

PARTS = ("MODEL.DETR.TRANSFORMER", "ProposalTransformer")
PARTS += ("MODEL.DETR.MASK_HEAD", "RefinedMaskHead")


def gradients_and_memory(model, batch) -> tuple[dict, int]:
    """And the bytes that are kept for the backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(0)
    with EventStorage(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = sum(model(batch).values())
    of_forward = sum(kept.values())
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}, of_forward


@pytest.mark.parametrize("parts", [(), PARTS])
@pytest.mark.parametrize("depth", [18, 50])
def test_gradients_are_the_same_and_less_is_kept(build_model, draw_input, parts, depth):
    exact = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.DETR.DROPOUT", 0.1)
    size = ("MODEL.RESNETS.DEPTH", depth, "MODEL.DETR.ENC_LAYERS", 2)
    model = build_model("PanopticDETR", *exact, *size, *parts).double().train()
    if depth == 50:  # as FREEZE_AT has it: what is not trained is as before
        model.backbone.stages[0].requires_grad_(False)
    batch = [draw_input(64, 48, segments=3), draw_input(48, 64, segments=2)]
    other = copy.deepcopy(model)
    recompute_activations(other)
    wanted, plain = gradients_and_memory(model, batch)
    # Averaged weights (SOLVER.AVERAGE_DECAY) are in a copy.
    found, less = gradients_and_memory(copy.deepcopy(other), batch)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        if gradient is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12, msg=name)
    # With these parts, most of what is kept is elsewhere at this size.
    assert less < (0.97 if parts else 0.8) * plain
    assert other.state_dict().keys() == model.state_dict().keys()


def test_batch_statistics_would_be_counted_twice(build_model):
    with pytest.raises(UserError, match="RECOMPUTE"):
        recompute_activations(build_model())
