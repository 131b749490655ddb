"""A linear layer that a CPU computes as a convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tracing import is_traced


class Linear(nn.Linear):
    """x W^T + b, of (..., in_features).

    It is also the 1x1 convolution of a map of one row, whose pixels are the tokens. Of float32 on
    a CPU, PyTorch has convolutions done by oneDNN and products of matrices by MKL, which on AMD's
    processors takes twice as long (docs/speed.md).
    """

    def forward(self, x: Tensor) -> Tensor:
        if is_traced() or x.device.type != "cpu" or x.dtype != torch.float32 or not x.numel():
            return super().forward(x)
        row = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
        row = F.conv2d(row, self.weight[:, :, None, None], self.bias)
        return row.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
