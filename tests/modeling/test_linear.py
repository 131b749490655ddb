"""The convolution is the product of matrices that it stands for."""

import pytest
import torch
from torch import nn

from detr_d2.modeling.linear import Linear


@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 5), (2, 7, 5), (3, 2, 7, 5), (2, 0, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_product(shape, dtype):
    ours, x = Linear(5, 3).to(dtype), torch.randn(shape, dtype=dtype, requires_grad=True)
    found = ours(x)
    found.sin().sum().backward()
    weight, bias, tokens = (
        t.detach().double().requires_grad_() for t in (ours.weight, ours.bias, x)
    )
    wanted = (tokens[..., None, :] * weight).sum(-1) + bias
    wanted.sin().sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert found.shape == (*shape[:-1], 3) and found.dtype == dtype and found.is_contiguous()
    pairs = (found, wanted), (x.grad, tokens.grad), (ours.weight.grad, weight.grad)
    for pair in (*pairs, (ours.bias.grad, bias.grad)):
        torch.testing.assert_close(pair[0].double(), pair[1], rtol=0, atol=tolerance)


def test_takes_tokens_in_any_order_in_memory():
    ours, x = Linear(5, 3), torch.randn(2, 5, 7).transpose(1, 2)
    torch.testing.assert_close(ours(x), nn.Linear.forward(ours, x))


@torch.no_grad()
def test_mixed_precision_casts_it():
    ours, x = Linear(5, 3), torch.randn(2, 7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
