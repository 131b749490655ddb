"""What each pixel is, before it is asked whose it is: a semantic map, and how it is trained."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .computing import at_least_float32
from .counts import mean_over_parts
from .matcher import Targets
from .pyramid import FINEST, normalised_conv


class SemanticHead(nn.Module):
    """Class logits at a fraction of the picture's size, from the coarsest level to the finest.

    On each level, a 3x3 convolution of the level and of what came before corrects what came before.
    So coarse levels, which see more around a cell, pass through as many convolutions as in Panoptic
    FPN's branch for stuff (Kirillov et al., arXiv:1901.02446), and reach the result directly, too.
    A 1x1 convolution gives the logits, at a stride below 4 several a cell (sub-pixel convolution,
    Shi et al., arXiv:1609.05158).
    """

    def __init__(self, channels: int, num_classes: int, num_levels: int, stride: int = 4):
        """
        Args:
            channels: p, of each level.
            num_classes: C.
            num_levels: of the pyramid.
            stride: pixels a logit, 4, 2 or 1.
        """
        super().__init__()
        self.convs = nn.ModuleList(normalised_conv(channels, channels) for _ in range(num_levels))
        self.along = FINEST // stride  # logits along a side of a cell
        self.classes = nn.Conv2d(channels, num_classes * self.along**2, 1)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """(B, p, h, w) each, the coarsest first -> (B, C, H/s, W/s), s the stride."""
        x = self.convs[0](maps[0])
        for conv, level in zip(self.convs[1:], maps[1:]):
            x = F.interpolate(x, size=level.shape[-2:], mode="nearest")
            x = x + conv(level + x)
        return F.pixel_shuffle(self.classes(x), self.along)


def log_odds(semantic: Tensor) -> Tensor:
    """(B, C, h, w) logits over classes -> log p - log(1 - p) of each, within 9.2."""
    p = at_least_float32(semantic).softmax(1)
    return (p + 1e-4).log() - (1 - p + 1e-4).log()


def pad_segment_maps(targets: list[Targets], size: tuple[int, int]) -> Tensor:
    """(B, H, W) int64, t + 1 at segment t of an image, 0 at VOID and in the padding."""
    maps = []
    for target in targets:
        assert target.segment_map is not None, "masks are trained where all images have them"
        segment_map = target.segment_map.long()
        h, w = segment_map.shape
        maps.append(F.pad(segment_map, (0, size[1] - w, 0, size[0] - h)))
    return torch.stack(maps)


def classes_of(maps: Tensor, targets: list[Targets]) -> Tensor:
    """(B, H, W) segments, as `pad_segment_maps` gives them -> their classes, -1 at VOID."""
    classes = [torch.cat((t.labels.new_tensor([-1]), t.labels))[m] for m, t in zip(maps, targets)]
    return torch.stack(classes)


def weights_of_pixels(maps: Tensor, targets: list[Targets]) -> Tensor | None:
    """(B, H, W) segments, as `pad_segment_maps` gives them -> their weights, 0 at VOID; None where
    all are 1."""
    weights = [t.weights for t in targets if t.weights is not None]
    if len(weights) < len(targets):
        return None
    return torch.stack([F.pad(w, (1, 0))[of_image] for of_image, w in zip(maps, weights)])


def shares_of_classes(classes: Tensor, cells: Tensor, weights: Tensor | None = None) -> Tensor:
    """How many pixels of each class are in each cell.

    Args:
        classes: (B, H, W) int64, -1 at VOID.
        cells: (B, C, h, w), a pixel belongs to the cell that its centre is in.
        weights: (B, H, W), a pixel of weight w counts as w pixels; None where all are 1.

    Returns:
        (B, h, w, C), in the dtype of `cells`.
    """
    batch, number, h, w = cells.shape
    (height, width), device = classes.shape[1:], classes.device
    row = (2 * torch.arange(height, device=device) + 1) * h // (2 * height)
    column = (2 * torch.arange(width, device=device) + 1) * w // (2 * width)
    first = (torch.arange(batch, device=device)[:, None, None] * h + row[:, None]) * w + column
    # VOID has a place of its own, so that none has to be looked for.
    places = (first * (number + 1) + classes.where(classes >= 0, number)).flatten()
    counts = torch.zeros(batch * h * w * (number + 1), device=device)
    if weights is None:
        weights = counts.new_ones(1).expand(len(places))
    counts.index_add_(0, places, weights.flatten())
    return counts.view(batch, h, w, number + 1)[..., :number].to(cells.dtype)


def cross_entropy_of_shares(log_probability: Tensor, shares: Tensor) -> Tensor:
    """The mean over pixels of the cross-entropy, all pixels of a cell having its probabilities.

    Args:
        log_probability: (B, h, w, C).
        shares: (B, h, w, C), pixels of each class.
    """
    return -(shares * log_probability).sum() / mean_over_parts(shares.sum())


def dice_of_shares(
    log_probability: Tensor, shares: Tensor, counted: Tensor | None = None
) -> Tensor:
    """The mean, over the classes that an image has, of the dice loss.

    Cross-entropy hardly sees a class of few pixels, whose segments count as much as those of a
    large one. The dice loss (Milletari et al., arXiv:1606.04797) of a class in an image, of
    probabilities p and its pixels m,

        1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1),

    has no size: it is near the IoU that segments are matched and judged by. VOID does not count.
    For the same reason, weights of pixels do not make it smaller: in the mean, a class of an image
    has the mean weight of its pixels.

    Args:
        log_probability, shares: (B, h, w, C), see `cross_entropy_of_shares`.
        counted: (B, h, w, C), the shares without weights; None where these are all 1.
    """
    p, pixels = log_probability.exp(), shares.sum(-1, keepdim=True)
    both, of_truth = (p * shares).sum((1, 2)), shares.sum((1, 2))
    dice = 1 - (2 * both + 1) / ((p * pixels).sum((1, 2)) + of_truth + 1)
    pixels = of_truth if counted is None else counted.sum((1, 2))
    weights = of_truth / pixels.clamp(min=1)
    return (dice * weights).sum() / mean_over_parts(weights.sum())
