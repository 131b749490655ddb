"""The parts of the ResNet: Detectron2's, with fewer passes over the feature maps.

A pass over a map of Res2 takes about as long as the 1x1 convolution that makes it. So norms are
folded into the convolutions before them, and, on a CPU, sums and ReLUs are done while the values
are still in its cache. Both happen only where nothing is differentiated.
"""

import functools

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone import resnet
from torch import Tensor, nn

from .tracing import is_traced


class FoldingConv2d(Conv2d):
    """A convolution without bias that does its norm's work where the norm is fixed.

    A frozen BatchNorm, or one in eval mode, scales each channel by s = weight / sqrt(var + eps)
    and adds bias - mean s. Convolution is linear, so that

        norm(conv(x, W)) = s conv(x, W) + (bias - mean s) = conv(x, s W) + (bias - mean s)

    and a pass over the feature map becomes one over the weights, which are hundreds of times
    fewer than the products that they enter. They are folded anew each time: nothing is kept that
    could be out of date, and parameters and checkpoints know nothing of it.
    """

    def forward(self, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
        """norm(conv(x)), plus `added`, which may be overwritten, and then perhaps the ReLU."""
        if not self._norm_is_fixed() or self._is_differentiated(x, added):
            return _add_and_rectify(super().forward(x), added, relu)
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        if _is_plain_float32(x) and _one_pass_works():
            return _in_one_pass(x, weight, bias, *geometry, added, relu)
        return _add_and_rectify(F.conv2d(x, weight, bias, *geometry), added, relu)

    def _norm_is_fixed(self) -> bool:
        if isinstance(self.norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            return not self.norm.training
        return isinstance(self.norm, FrozenBatchNorm2d)

    def _is_differentiated(self, x: Tensor, added: Tensor | None) -> bool:
        tensors = (x, added, self.weight, self.norm.weight, self.norm.bias)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _add_and_rectify(x: Tensor, added: Tensor | None, relu: bool) -> Tensor:
    if added is not None:
        x += added
    return F.relu_(x) if relu else x


def _in_one_pass(x, weight, bias, stride, padding, dilation, groups, added, relu: bool) -> Tensor:
    """`_add_and_rectify` of the convolution, done by oneDNN; writes over `added`."""
    convolution = (x, weight, bias, padding, stride, dilation, groups)
    if added is None:
        last = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(*convolution, last, [], "")
    sum_ = torch.ops.mkldnn._convolution_pointwise_.binary
    return sum_(added, *convolution, "add", 1.0, "relu" if relu else None, [], "")


def _is_plain_float32(x: Tensor) -> bool:
    """A CPU's float32, neither cast nor traced on the way."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return plain and not is_traced() and not torch.is_autocast_enabled("cpu")


@functools.cache
def _one_pass_works() -> bool:
    """Whether this PyTorch has oneDNN's convolution with a sum and a ReLU, as we call it.

    It is what PyTorch's own compiler calls, and is not documented; so it is tried, once.
    """
    numbers = torch.arange(2 * 8 * 9, dtype=torch.float32, device="cpu").sin()
    x, added = numbers.view(2, 1, 8, 3, 3)
    convolution = (x, numbers[:64].view(8, 8, 1, 1), numbers[:8], (1, 1), (0, 0), (1, 1), 1)
    try:
        summed = _in_one_pass(*convolution, added.clone(), True)
        found = summed, _in_one_pass(*convolution, None, False)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    plain = F.conv2d(*convolution)
    wanted = F.relu(plain + added), plain
    return all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, wanted))


class _Folding(nn.Module):
    """What the parts share: their convolutions, made by Detectron2, get another `forward`."""

    conv1: nn.Module
    conv2: nn.Module
    conv3: nn.Module
    shortcut: nn.Module | None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for module in self.children():
            if isinstance(module, Conv2d):
                module.__class__ = FoldingConv2d


class Stem(_Folding, resnet.BasicStem):
    """(B, 3, H, W) -> (B, C, H/4, W/4): a 7x7 convolution and a 3x3 max pool, of stride 2 each."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x, relu=True), kernel_size=3, stride=2, padding=1)


class BasicBlock(_Folding, resnet.BasicBlock):
    """Of R18 and R34."""

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """`overwrite`: no one else needs x."""
        return self.conv2(self.conv1(x, relu=True), _shortcut(self, x, overwrite), relu=True)


class BottleneckBlock(_Folding, resnet.BottleneckBlock):
    """Of R50 and deeper."""

    def forward(self, x: Tensor, overwrite: bool = False) -> Tensor:
        """`overwrite`: no one else needs x."""
        out = self.conv2(self.conv1(x, relu=True), relu=True)
        return self.conv3(out, _shortcut(self, x, overwrite), relu=True)


def _shortcut(block: _Folding, x: Tensor, overwrite: bool) -> Tensor:
    """What the block's result is added to, and may be written over."""
    if block.shortcut is not None:
        return block.shortcut(x)
    return x if overwrite else x.clone()


class Stage(nn.Sequential):
    """Blocks of which each may write over the result of the one before.

    The first may not, since what comes in is a result of the backbone as well; and none may where
    hooks can have kept a result.
    """

    def forward(self, x: Tensor) -> Tensor:
        # What is traced goes the plain way, which writes over nothing.
        free = is_traced() or not _has_hooks(self)
        for number, block in enumerate(self):
            x = block(x, overwrite=free and number > 0)
        return x


def _has_hooks(module: nn.Module) -> bool:
    return torch.nn.modules.module._has_any_global_hook() or any(
        part._forward_hooks or part._forward_pre_hooks for part in module.modules()
    )
