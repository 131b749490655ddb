"""torchvision's ResNet with batch norms on their own, under Detectron2's parameter names."""

import torch
from torch import Tensor, nn

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class FrozenBatchNorm(nn.Module):
    """Two passes over the map: times `scale`, plus `shift`. [official]"""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


class ConvNorm(nn.Conv2d):
    """A convolution without a bias, and its norm; sizes stay but for the stride."""

    def __init__(self, inputs, outputs, kernel, norm, stride=1, dilation=1):
        padding = dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Block(nn.Module):
    """Convolutions with ReLU between them, and the sum with the shortcut."""

    def __init__(self, inputs: int, widths: tuple[int, ...], norm, stride: int, dilation: int):
        """
        Args:
            widths: channels after each convolution: two 3x3 ones (R18, R34), or 1x1, 3x3, 1x1.
            stride: of the first 3x3 convolution, as in torchvision.
        """
        super().__init__()
        self.convs = [f"conv{n}" for n in range(1, len(widths) + 1)]
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        strided = kernels.index(3)
        channels = (inputs, *widths)
        for n, (name, kernel) in enumerate(zip(self.convs, kernels)):
            step = stride if n == strided else 1
            rate = dilation if kernel == 3 else 1
            conv = ConvNorm(channels[n], channels[n + 1], kernel, norm, step, rate)
            setattr(self, name, conv)
        changes = stride > 1 or inputs != widths[-1]
        self.shortcut = ConvNorm(inputs, widths[-1], 1, norm, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.convs[:-1]:
            out = getattr(self, name)(out).relu_()
        out = getattr(self, self.convs[-1])(out)
        return (out + (x if self.shortcut is None else self.shortcut(x))).relu_()


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, C, H/4, W/4)."""

    def __init__(self, outputs: int, norm):
        super().__init__()
        self.conv1 = ConvNorm(3, outputs, 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.conv1(x).relu_(), 3, stride=2, padding=1)


class ResNet(nn.Module):
    """A ResNet by the keys MODEL.RESNETS, with Detectron2's names of weights."""

    def __init__(self, cfg):
        super().__init__()
        resnets, freeze_at = cfg.MODEL.RESNETS, cfg.MODEL.BACKBONE.FREEZE_AT

        def norm_of(stage: int):
            frozen = resnets.NORM == "FrozenBN" or stage <= freeze_at
            return FrozenBatchNorm if frozen else nn.BatchNorm2d

        inputs = resnets.STEM_OUT_CHANNELS
        self.stem = Stem(inputs, norm_of(1))
        for index, count in enumerate(BLOCKS_PER_STAGE[resnets.DEPTH]):
            outputs = resnets.RES2_OUT_CHANNELS * 2**index
            middle = resnets.WIDTH_PER_GROUP * 2**index
            widths = (outputs,) * 2 if resnets.DEPTH < 50 else (middle, middle, outputs)
            dilated = index == 3 and resnets.RES5_DILATION == 2
            blocks = []
            for n in range(count):
                stride = 2 if n == 0 and index > 0 and not dilated else 1
                dilation = 2 if dilated and n > 0 else 1
                blocks.append(Block(inputs, widths, norm_of(index + 2), stride, dilation))
                inputs = outputs
            setattr(self, f"res{index + 2}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> res2 (B, C, H/4, W/4) to res5 (B, C, H/32, W/32)."""
        features = {}
        x = self.stem(x)
        for name in ("res2", "res3", "res4", "res5"):
            x = features[name] = getattr(self, name)(x)
        return features
