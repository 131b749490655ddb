"""What makes a built model faster, on a CPU above all, and is not the paper's.

`accelerate` replaces modules by others that give the same but for rounding. Parameters stay the
same objects under the same names, so that a checkpoint, an optimiser or a trained model does not
know of it. docs/speed.md says what each of them gives.
"""

import functools
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone import resnet
from torch import Tensor, nn

from .modeling.computing import is_traced

ModelT = TypeVar("ModelT", bound=nn.Module)

# Weights of a linear layer: of fewer, a convolution takes longer than the product of matrices.
_WIDE = 2**17


def accelerate(model: ModelT) -> ModelT:
    """Replace what can be faster within `model`, in place.

    * Detectron2's ResNet: where nothing of it is differentiated, norms that are fixed are folded
      into the convolutions before them, and a CPU does sums and ReLUs within convolutions. The
      blocks of a stage are not called then, but what they are made of: hooks on them see nothing.
    * Wide linear layers become convolutions, and GroupNorms of few channels go by whole maps: on a
      CPU, in training as well.

    It is for a model that is built and not yet wrapped or hooked. Modules of other classes, those
    that are derived from these among them, are left alone.

    Returns:
        The model.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.numel() >= _WIDE:
                setattr(parent, name, ConvolvedLinear(child))
            elif type(child) is nn.GroupNorm:
                setattr(parent, name, PlanarGroupNorm(child))
        if isinstance(parent, resnet.ResNet):
            _accelerate_resnet(parent)
    return model


def _accelerate_resnet(backbone: resnet.ResNet) -> None:
    if type(backbone.stem) is resnet.BasicStem:
        backbone.stem = FoldingStem(backbone.stem)
    for number, name in enumerate(backbone.stage_names):
        blocks = list(backbone.stages[number])
        if all(type(block) in (resnet.BasicBlock, resnet.BottleneckBlock) for block in blocks):
            stage = FoldingStage(*blocks)
            stage.training = backbone.stages[number].training
            backbone.stages[number] = stage
            setattr(backbone, name, stage)


class ConvolvedLinear(nn.Linear):
    """x W^T + b, of (..., in_features), as the 1x1 convolution of a map of one row.

    Of float32 on a CPU, PyTorch has convolutions done by oneDNN and products of matrices by MKL,
    which on AMD's processors takes twice as long.
    """

    def __init__(self, linear: nn.Linear):
        """
        Args:
            linear: whose weights it has.
        """
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.training = linear.training

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not _is_float32_on_cpu(x) or not x.numel():
            return super().forward(x)
        row = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
        row = F.conv2d(row, self.weight[:, :, None, None], self.bias)
        return row.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


class PlanarGroupNorm(nn.GroupNorm):
    """GroupNorm that a CPU computes on whole maps where a group has few channels.

    PyTorch's kernel for channels last takes up to twenty times as long there as the one for whole
    maps and two copies together.
    """

    _FEW = 8  # channels a group

    def __init__(self, norm: nn.GroupNorm):
        """
        Args:
            norm: whose weights it has.
        """
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, norm.affine, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, channels last where x is."""
        few = self.num_channels < self._FEW * self.num_groups
        last = x.dim() == 4 and x.stride(1) == 1
        if x.device.type != "cpu" or not few or not last or is_traced():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


class FoldingStem(CNNBlockBase):
    """Detectron2's stem, (B, 3, H, W) -> (B, C, H/4, W/4)."""

    def __init__(self, stem: resnet.BasicStem):
        """
        Args:
            stem: whose convolution it has.
        """
        super().__init__(stem.in_channels, stem.out_channels, stem.stride)
        self.conv1 = stem.conv1
        self.training = stem.training

    def forward(self, x: Tensor) -> Tensor:
        """A 7x7 convolution and a 3x3 max pool, of stride 2 each."""
        fold = _may_fold(self, x)
        x = _folded(self.conv1, x, relu=True) if fold else F.relu_(self.conv1(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class FoldingStage(nn.Sequential):
    """Detectron2's blocks of a stage, of which each may write over the result of the one before.

    The first may not, since what comes in is a result of the backbone as well.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if not _may_fold(self, x):
            return super().forward(x)
        for number, block in enumerate(self):
            x = _of_block(block, x, overwrite=number > 0)
        return x


def _of_block(block: Any, x: Tensor, overwrite: bool) -> Tensor:
    """The result of a `BasicBlock` or a `BottleneckBlock`.

    Args:
        overwrite: no one else needs x.
    """
    out = _folded(block.conv1, x, relu=True)
    last = block.conv2
    if isinstance(block, resnet.BottleneckBlock):
        out, last = _folded(block.conv2, out, relu=True), block.conv3
    if block.shortcut is not None:
        x = _folded(block.shortcut, x)
    elif not overwrite:
        x = x.clone()
    return _folded(last, out, added=x, relu=True)


def _may_fold(part: nn.Module, x: Tensor) -> bool:
    """Whether nothing in `part` is differentiated, and all of its convolutions have fixed norms.

    What is traced goes the plain way, which every runtime has.
    """
    if is_traced():
        return False
    if torch.is_grad_enabled() and (
        x.requires_grad or any(p.requires_grad for p in part.parameters())
    ):
        return False
    convolutions = (m for m in part.modules() if isinstance(m, Conv2d))
    return all(conv.bias is None and _is_fixed(conv.norm) for conv in convolutions)


def _is_fixed(norm: nn.Module | None) -> bool:
    if isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        return not norm.training and norm.affine and norm.track_running_stats
    return isinstance(norm, FrozenBatchNorm2d)


def _folded(conv: Any, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
    """norm(conv(x)), plus `added`, which may be overwritten, and then perhaps the ReLU.

    A frozen BatchNorm, or one in eval mode, scales each channel by s = weight / sqrt(var + eps)
    and adds bias - mean s. Convolution is linear, so that

        norm(conv(x, W)) = s conv(x, W) + (bias - mean s) = conv(x, s W) + (bias - mean s)

    and a pass over the feature map, which at Res2 takes about as long as the 1x1 convolution that
    makes it, becomes one over the weights, which are hundreds of times fewer than the products that
    they enter. They are folded anew each time: nothing is kept that could be out of date.
    """
    norm = conv.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = conv.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if _is_float32_on_cpu(x) and not torch.is_autocast_enabled("cpu") and _one_pass_works():
        return _in_one_pass(x, weight, bias, *geometry, added, relu)
    return _add_and_rectify(F.conv2d(x, weight, bias, *geometry), added, relu)


def _is_float32_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and not is_traced()


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
