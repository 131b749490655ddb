"""Masks at the pixels of the result, against all of them at full size."""

import pytest
import torch
import torch.nn.functional as F
from nearest import nearest_of_pillow
from sizes import SIZES, logits_of, random_masks

from detr_d2.modeling import upsampling
from detr_d2.modeling.upsampling import UpsampledMasks, resize_nearest, upsample_masks


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("queries", [0, 1, 30])
def test_logits_and_masks_are_those_of_all_at_full_size(nearest, sizes, queries, monkeypatch):
    monkeypatch.setitem(upsampling._LOGITS_AT_ONCE, "cpu", 100)  # several pieces
    masks = random_masks("noise", queries, sizes[0])
    found = UpsampledMasks(masks, *sizes[1:], nearest=nearest)
    wanted = logits_of(masks, *sizes[1:], nearest)
    close = {"rtol": 0, "atol": 1e-12}
    everywhere = found.everywhere()
    torch.testing.assert_close(found.spread(everywhere), wanted, **close)
    assert torch.equal(found.positive(), everywhere > 0)
    if nearest:  # nothing is computed twice
        assert all(n <= min(size) for n, size in zip(everywhere.shape[1:], zip(*sizes[2:])))
    else:
        assert everywhere.shape[1:] == sizes[3]

    pixels = (torch.rand(everywhere.shape[1:]) < 0.5).nonzero()
    logits = found.at(pixels)
    torch.testing.assert_close(logits, everywhere[:, pixels[:, 0], pixels[:, 1]].T, **close)
    if queries:
        asked = torch.randint(queries, (len(pixels),))
        assert torch.equal(found.at(pixels, asked), logits[torch.arange(len(pixels)), asked])
    numbers = torch.randint(max(1, queries), everywhere.shape[1:])
    areas = found.spread(numbers).flatten().bincount(minlength=queries)
    assert not queries or torch.equal(found.areas(numbers), areas)


@pytest.mark.parametrize("output_size", [(28, 36), (15, 20), (61, 47), (7, 9), (3, 50)])
def test_without_padding_bilinear_is_one_interpolation(output_size):
    for size in ((7, 9), (28, 36), (1, 1)):
        masks = torch.randn(3, *size).double()
        found = UpsampledMasks(masks, (28, 36), (28, 36), output_size, nearest=False)
        wanted = F.interpolate(masks[None], output_size, mode="bilinear")[0]
        torch.testing.assert_close(found.everywhere(), wanted, rtol=0, atol=1e-12)


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
