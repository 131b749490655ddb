import pytest
import torch
from torch import nn

from detr_d2.comparison.cost import count_multiply_adds


class Model(nn.Module):
    """A convolution and an attention, on a list of inputs as Detectron2's models have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, batched_inputs):
        features = self.conv(batched_inputs[0]["image"][None])
        tokens = features.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("sizes", [[(5, 7)], [(5, 7), (2, 3)]])
def test_multiply_adds_by_hand(sizes):
    expected = 0
    for h, w in sizes:
        expected += h * w * 4 * 3 * 9  # the convolution
        expected += 2 * (h * w) ** 2 * 4  # products of queries and keys, of weights and values
    inputs = [[{"image": torch.zeros(3, h, w)}] for h, w in sizes]
    assert count_multiply_adds(Model().requires_grad_(False), inputs) == expected / len(sizes)
