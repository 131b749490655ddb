import pytest
import torch
from torch import nn

from detr_d2.engine.averaged_weights import AverageWeights
from detr_d2.errors import UserError


def test_averages_are_those_of_the_formula():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    averaging = AverageWeights(model, 0.5)
    expected = None
    for step in range(20):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3, dtype=torch.float64))  # its statistics are of the last step
        averaging.after_step()
        trained = [x.detach().clone() for x in model.parameters()]
        if expected is None:
            expected = trained
        else:
            decay = min(0.5, (1 + step) / (10 + step))
            expected = [decay * e + (1 - decay) * t for e, t in zip(expected, trained)]
        for ours, slow in zip(averaging.model.parameters(), expected):
            torch.testing.assert_close(ours, slow, rtol=1e-13, atol=1e-13)
        for ours, theirs in zip(averaging.model.buffers(), model.buffers()):
            assert ours.equal(theirs)
    assert not averaging.model[0].weight.equal(model[0].weight)


def test_a_state_is_gone_on_with():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    averaging = AverageWeights(model, 0.9)
    for _ in range(3):
        model.weight.data.add_(1)
        averaging.after_step()
    state = averaging.state_dict()
    other = nn.Linear(3, 2)
    other.load_state_dict(averaging.model.state_dict())  # what a checkpoint's model has
    resumed = AverageWeights(other, 0.9)
    resumed.load_state_dict(state)
    for both in ((model, averaging), (other, resumed)):
        both[0].weight.data.add_(1)
        both[1].after_step()
    assert other.weight.equal(model.weight)
    assert resumed.model.weight.equal(averaging.model.weight)
    assert not other.weight.equal(resumed.model.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(UserError, match="AVERAGE_DECAY"):
        AverageWeights(nn.Linear(1, 1), decay)
