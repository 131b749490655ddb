"""Who has each pixel, and how much of its mask: against all masks at full size."""

import pytest
import torch
from sizes import SIZES, logits_of, random_masks

from detr_d2.modeling import shares, upsampling
from detr_d2.modeling.competition import Competition, HighestLogit, HighestScore
from detr_d2.modeling.shares import shares_won
from detr_d2.modeling.upsampling import UpsampledMasks


def competition_of(masks, sizes, scores=None) -> Competition:
    """By logit and nearest; with scores by them and bilinear."""
    decides = HighestLogit() if scores is None else HighestScore(scores)
    return Competition(UpsampledMasks(masks, *sizes, nearest=scores is None), decides)


def keys_of(masks, sizes, scores=None) -> torch.Tensor:
    """(K, *output_size): of these, the highest wins."""
    logits = logits_of(masks, *sizes, nearest=scores is None)
    return logits if scores is None else scores[:, None, None] * logits.sigmoid()


@pytest.mark.parametrize("by_scores", [False, True])
@pytest.mark.parametrize("kind", ["smooth", "noise", "flat"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("queries", [1, 2, 30])
def test_winners_are_those_of_all_masks_at_full_size(by_scores, kind, sizes, queries, monkeypatch):
    monkeypatch.setitem(upsampling._LOGITS_AT_ONCE, "cpu", 100)  # several pieces
    masks, everyone = random_masks(kind, queries, sizes[0]), torch.ones(queries, dtype=torch.bool)
    scores = torch.rand(queries).double() if by_scores else None
    competition, keys = competition_of(masks, sizes[1:], scores), keys_of(masks, sizes[1:], scores)
    before = competition.winners(everyone)
    assert torch.equal(competition.masks.spread(before).long(), keys.argmax(0))

    for share in (0.1, 0.5, 0.9):
        left = torch.rand(queries) < share
        left[0] = True
        among = keys.masked_fill(~left[:, None, None], float("-inf")).argmax(0)
        for winners in (competition.winners(left), competition.winners(left, before)):
            assert torch.equal(competition.masks.spread(winners).long(), among)
    assert competition.winners(~everyone, before) is before


@pytest.mark.parametrize("scores", [None, torch.full((3,), 0.9)])
def test_of_equal_masks_the_first_wins(scores):
    masks = torch.randn(1, 7, 9).expand(3, -1, -1)
    competition = competition_of(masks, [(28, 36)] * 3, scores)
    assert competition.winners(torch.tensor([True, True, True])).unique().tolist() == [0]
    assert competition.winners(torch.tensor([False, True, True])).unique().tolist() == [1]


def test_with_equal_scores_the_highest_logit_wins():
    masks = random_masks("smooth", 6, (7, 9))
    scores = torch.full((6,), 0.6).double()
    winners = competition_of(masks, [(28, 36)] * 3, scores).winners(scores > 0)
    wanted = logits_of(masks, *[(28, 36)] * 3, nearest=False).argmax(0)
    assert torch.equal(winners.long(), wanted)


@pytest.mark.parametrize("scores", [None, torch.tensor([0.9, 0.3])])
def test_nothing_is_interpolated_where_one_mask_wins_for_sure(scores, monkeypatch):
    # The border of two masks lies between the columns 3 and 4 of 8.
    masks = torch.full((2, 4, 8), -3.0)
    masks[0, :, :4] = masks[1, :, 4:] = 3
    competition, seen = competition_of(masks, [(16, 32)] * 3, scores), []
    at = competition.masks.at
    monkeypatch.setattr(competition.masks, "at", lambda p: seen.append(p) or at(p))
    winners = competition.winners(torch.tensor([True, True]))
    border = 16 if scores is None else 17  # just behind it, 0.9 sigmoid(-0.75) > 0.3 sigmoid(0.75)
    assert winners.tolist() == [[0] * border + [1] * (32 - border)] * 16
    assert torch.cat(seen)[:, 1].unique().tolist() == [14, 15, 16, 17]


def test_who_is_the_best_at_all_corners_need_not_be_the_best_between():
    """Two thirds of the way, the first has p = sigmoid(-10/3), and the second p = sigmoid(3)."""
    masks = torch.tensor([[[10.0, -10.0]], [[30.0, -10.5]]])
    competition = competition_of(masks, [(1, 6)] * 3, torch.tensor([1.0, 0.5]))
    winners = competition.winners(torch.tensor([True, True]))
    assert winners.tolist() == [[0, 0, 0, 1, 0, 0]]


def test_a_logit_that_rounds_p_to_0_or_1_still_counts():
    masks = torch.tensor([[-200.0, 30.0, -90.0], [-150.0, 20.0, -89.5]])[:, None]
    for scores in ([0.5, 0.5], [1.0, 1.0]):
        competition = competition_of(masks, [(1, 3)] * 3, torch.tensor(scores))
        assert competition.winners(torch.tensor([True, True])).tolist() == [[1, 0, 1]]
    # exp(-89.5) 0.5 is less than exp(-90) 0.9, and exp(50) decides against any score.
    competition = competition_of(masks, [(1, 3)] * 3, torch.tensor([0.9, 0.5]))
    assert competition.winners(torch.tensor([True, True])).tolist() == [[1, 0, 0]]


def plain_shares(masks, sizes, winners) -> list[float]:
    logits = logits_of(masks, *sizes, nearest=False)
    own = [int((mask > 0).sum()) for mask in logits]
    won = [int(((mask > 0) & (winners == query)).sum()) for query, mask in enumerate(logits)]
    return [w / o if o else float("nan") for w, o in zip(won, own)]


@pytest.mark.parametrize("kind", ["smooth", "noise", "flat"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("queries", [1, 2, 30])
def test_shares_are_those_of_all_masks_at_full_size(kind, sizes, queries, monkeypatch):
    for constant in ("_CELLS_AT_ONCE", "_PIXELS_AT_ONCE"):
        monkeypatch.setattr(shares, constant, 100)  # several pieces
    masks = random_masks(kind, queries, sizes[0]) - 0.5
    upsampled = UpsampledMasks(masks, *sizes[1:], nearest=False)
    winners = torch.randint(queries, sizes[3])
    for some in (winners, torch.where(logits_of(masks, *sizes[1:], False)[0] > 0, 0, winners)):
        wanted = torch.tensor(plain_shares(masks, sizes[1:], some), dtype=torch.float64)
        torch.testing.assert_close(shares_won(upsampled, some), wanted, equal_nan=True)


def test_shares_by_hand():
    # Pixels lie between logits: the mask of query 0 is two logits wide, its outlines are half way.
    masks = torch.tensor([[1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])[:, None]
    upsampled = UpsampledMasks(masks, (4, 16), (4, 16), (4, 16), nearest=False)
    winners = torch.zeros(4, 16, dtype=torch.int64)
    winners[0] = 1
    first, second = shares_won(upsampled, winners)
    assert first == 0.75 and second.isnan()
