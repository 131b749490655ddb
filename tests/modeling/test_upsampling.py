"""Masks at the pixels of the result, against all of them at full size."""

import pytest
import torch
import torch.nn.functional as F
from nearest import nearest_of_pillow

from detr_d2.modeling import upsampling
from detr_d2.modeling.upsampling import UpsampledMasks, resize_nearest, upsample_masks

# H/4, the padded batch, the image, the result.
SIZES = [
    ((7, 9), (28, 36), (28, 36), (28, 36)),
    ((7, 9), (27, 34), (23, 34), (15, 20)),
    ((7, 9), (25, 33), (25, 30), (61, 47)),
    ((7, 9), (28, 36), (28, 36), (3, 4)),
    ((1, 1), (3, 4), (2, 3), (5, 6)),
    ((12, 1), (12, 1), (12, 1), (12, 1)),
]


def masks_of(kind: str, queries: int, size: tuple[int, int]) -> torch.Tensor:
    """(K, *size) float64: some of one colour, smooth, or noise."""
    if kind == "noise":
        return torch.randn(queries, *size).double()
    if kind == "flat":
        return torch.randn(queries, 1, 1).expand(-1, *size).double()
    return F.interpolate(torch.randn(1, queries, 3, 3), size, mode="bicubic")[0].double()


def logits_of(masks, padded_size, image_size, output_size):
    """(K, *output_size), the plain way."""
    full = F.interpolate(masks[None], size=padded_size, mode="bilinear")[0]
    return resize_nearest(full[:, : image_size[0], : image_size[1]], output_size)


@pytest.mark.parametrize("kind", ["smooth", "noise", "flat"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("queries", [1, 2, 30])
def test_winners_are_those_of_all_masks_at_full_size(kind, sizes, queries, monkeypatch):
    monkeypatch.setitem(upsampling._LOGITS_AT_ONCE, "cpu", 100)  # several pieces
    masks = masks_of(kind, queries, sizes[0])
    found = UpsampledMasks(masks, *sizes[1:])
    wanted = logits_of(masks, *sizes[1:])
    torch.testing.assert_close(found.spread(found.everywhere()), wanted, rtol=0, atol=1e-12)
    winners = found.winners()
    assert torch.equal(found.spread(winners), wanted.argmax(0))
    assert all(n <= min(size) for n, size in zip(winners.shape, zip(*sizes[2:])))
    areas = wanted.argmax(0).flatten().bincount(minlength=queries)
    assert torch.equal(found.areas(winners), areas)

    pixels = torch.ones_like(winners).nonzero()
    left = torch.rand(queries) < 0.5
    left[0] = True
    among = wanted.masked_fill(~left[:, None, None], float("-inf")).argmax(0)
    assert torch.equal(found.spread(found.winners_at(pixels, left).view_as(winners)), among)
    assert found.winners_at(pixels[:0]).tolist() == []


def test_of_equal_masks_the_first_wins():
    masks = torch.randn(1, 7, 9).expand(3, -1, -1)
    found = UpsampledMasks(masks, (28, 36), (28, 36), (28, 36))
    assert found.winners().unique().tolist() == [0]
    assert found.winners_at(torch.tensor([[3, 4]]), torch.tensor([False, True, True])) == 1


def test_nothing_is_interpolated_where_one_mask_wins_at_all_neighbours(monkeypatch):
    # The border of two masks lies between the columns 3 and 4 of 8.
    masks = torch.zeros(2, 4, 8)
    masks[0, :, :4] = masks[1, :, 4:] = 1
    found, seen = UpsampledMasks(masks, (16, 32), (16, 32), (16, 32)), []
    winners_at = found.winners_at
    monkeypatch.setattr(found, "winners_at", lambda p: seen.append(p) or winners_at(p))
    winners = found.winners()
    assert winners.tolist() == [[0] * 16 + [1] * 16] * 16
    (pixels,) = seen
    assert pixels[:, 1].unique().tolist() == [14, 15, 16, 17]


def test_nearest_equals_pillow():
    """Also where a centre lies between two pixels, and Pillow's rounding error decides."""
    for old in range(1, 50):
        for new in range(1, 50):
            resized = resize_nearest(torch.arange(old)[None], (1, new))
            assert resized[0].tolist() == nearest_of_pillow(old, new)


def test_nearest_by_hand():
    assert resize_nearest(torch.arange(8)[None], (1, 4)).tolist() == [[1, 3, 5, 7]]
    columns = resize_nearest(torch.arange(6).view(2, 3), (4, 2))
    assert columns.tolist() == [[0, 2], [0, 2], [3, 5], [3, 5]]


def test_nearest_keeps_leading_axes_and_dtype():
    values = torch.randint(2, (2, 3, 4, 5)).bool()
    resized = resize_nearest(values, (7, 2))
    assert resized.shape == (2, 3, 7, 2)
    assert resized.dtype == torch.bool
    assert torch.equal(resized[1, 2], resize_nearest(values[1, 2], (7, 2)))
    assert resize_nearest(values[:, :0], (7, 2)).shape == (2, 0, 7, 2)


def test_upsampling_is_bilinear_to_the_batch_and_then_cropped():
    # Centres of the four new pixels lie at -1/4, 1/4, 3/4, 5/4 of the two old ones.
    upsampled = upsample_masks(torch.tensor([[[0.0, 4.0]]]), (2, 4), (1, 3))
    assert upsampled.tolist() == [[[0.0, 1.0, 3.0]]]
    masks = torch.randn(3, 4, 5)
    full = F.interpolate(masks[None], size=(15, 18), mode="bilinear")[0]
    assert torch.equal(upsample_masks(masks, (15, 18), (11, 18)), full[:, :11])
    assert upsample_masks(masks[:0], (15, 18), (11, 17)).shape == (0, 11, 17)
