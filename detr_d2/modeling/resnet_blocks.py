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
        if not self._norm_is_fixed() or self._is_differentiated(x):
            return _add_and_rectify(super().forward(x), added, relu)
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = self.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        if _is_plain_float32(x) and _one_pass_works():
            return self._in_one_pass(x, weight, bias, added, relu)
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return _add_and_rectify(F.conv2d(x, weight, bias, *geometry), added, relu)

    def _in_one_pass(self, x, weight, bias, added, relu: bool) -> Tensor:
        rest = (x, weight, bias, self.padding, self.stride, self.dilation, self.groups)
        if added is None:
            return torch.ops.mkldnn._convolution_pointwise(*rest, _RELU[relu] or "none", [], "")
        sum_ = torch.ops.mkldnn._convolution_pointwise_.binary
        return sum_(added, *rest, "add", 1.0, _RELU[relu], [], "")

    def _norm_is_fixed(self) -> bool:
        if isinstance(self.norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            return not self.norm.training
        return isinstance(self.norm, FrozenBatchNorm2d)

    def _is_differentiated(self, x: Tensor) -> bool:
        tensors = (x, self.weight, self.norm.weight, self.norm.bias)
        return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


_RELU = {True: "relu", False: None}


def _add_and_rectify(x: Tensor, added: Tensor | None, relu: bool) -> Tensor:
    if added is not None:
        x += added
    return F.relu_(x) if relu else x


def _is_plain_float32(x: Tensor) -> bool:
    """A CPU's float32, neither cast nor traced on the way."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return plain and not traced and not torch.is_autocast_enabled("cpu")


@functools.cache
def _one_pass_works() -> bool:
    """Whether this PyTorch has oneDNN's convolution with a sum and a ReLU, as we call it.

    It is what PyTorch's own compiler calls, and is not documented; so it is tried, once.
    """
    conv = FoldingConv2d(8, 8, 3, padding=1)
    x, added = torch.randn(2, 1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    arguments = (x, conv.weight.detach(), conv.bias.detach())
    try:
        found = conv._in_one_pass(*arguments, added.clone(), True)
        found = found, conv._in_one_pass(*arguments, None, False)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    plain = F.conv2d(*arguments, padding=1)
    wanted = F.relu(plain + added), plain
    return all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, wanted))


class _Folding(nn.Module):
    """What the parts share.

    Attributes:
        is_first_of_stage: others see what comes in as well.
    """

    is_first_of_stage = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for module in self.children():
            # Detectron2's blocks make their convolutions themselves. This one is the same with
            # another `forward`.
            if isinstance(module, Conv2d):
                module.__class__ = FoldingConv2d

    def _shortcut_of(self, x: Tensor) -> Tensor:
        """What the result is added to, and written over: a tensor that no one else sees."""
        if self.shortcut is not None:
            return self.shortcut(x)
        return x.clone() if self.is_first_of_stage else x


class Stem(_Folding, resnet.BasicStem):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(x, relu=True), kernel_size=3, stride=2, padding=1)


class BasicBlock(_Folding, resnet.BasicBlock):
    """Of R18 and R34."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x, relu=True), self._shortcut_of(x), relu=True)


class BottleneckBlock(_Folding, resnet.BottleneckBlock):
    """Of R50 and deeper."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x, relu=True), relu=True)
        return self.conv3(out, self._shortcut_of(x), relu=True)
