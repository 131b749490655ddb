import math

import pytest
import torch

from detr_d2.errors import UserError
from detr_d2.modeling.position_encoding import PositionEmbeddingLearned, PositionEmbeddingSine


def sine_by_cell(padding_mask, d):
    """Cell by cell in Python floats: d/2 features of y, then d/2 of x."""
    inside = (~padding_mask).tolist()
    batch, h, w = padding_mask.shape
    positions = torch.zeros(batch, d, h, w, dtype=torch.float64)
    for b in range(batch):
        for row in range(h):
            for column in range(w):
                in_column = [inside[b][r][column] for r in range(h)]
                in_row = inside[b][row]
                y = sum(in_column[: row + 1]) / (sum(in_column) + 1e-6) * 2 * math.pi
                x = sum(in_row[: column + 1]) / (sum(in_row) + 1e-6) * 2 * math.pi
                for pair in range(d // 4):
                    wavelength = 10000 ** (2 * pair / (d // 2))
                    for start, position in ((0, y), (d // 2, x)):
                        feature = start + 2 * pair
                        positions[b, feature, row, column] = math.sin(position / wavelength)
                        positions[b, feature + 1, row, column] = math.cos(position / wavelength)
    return positions


def padding_mask(size, image_sizes):
    mask = torch.ones(len(image_sizes), *size, dtype=torch.bool)
    for image, (h, w) in zip(mask, image_sizes):
        image[:h, :w] = False
    return mask


@pytest.mark.parametrize("d", [4, 16, 24])
@pytest.mark.parametrize(
    "mask",
    [
        padding_mask((1, 1), [(1, 1)]),
        padding_mask((3, 7), [(3, 7)]),
        padding_mask((5, 4), [(5, 2), (3, 4), (2, 1)]),
    ],
    ids=["one cell", "no padding", "padding"],
)
def test_sine_is_the_formula_cell_by_cell(mask, d):
    positions = PositionEmbeddingSine(num_features=d)(mask, torch.float64)
    torch.testing.assert_close(positions, sine_by_cell(mask, d), rtol=0, atol=1e-12)


def test_sine_in_float32_is_float64_rounded():
    mask = padding_mask((5, 4), [(5, 2), (3, 4)])
    positions = PositionEmbeddingSine(num_features=16)(mask, torch.float32)
    assert positions.dtype == torch.float32
    torch.testing.assert_close(positions.double(), sine_by_cell(mask, 16), rtol=0, atol=1e-5)


def test_sine_of_an_image_does_not_depend_on_its_padding():
    sine = PositionEmbeddingSine(num_features=16)
    alone = sine(padding_mask((3, 2), [(3, 2)]), torch.float64)
    padded = sine(padding_mask((5, 4), [(3, 2)]), torch.float64)
    assert torch.equal(padded[..., :3, :2], alone)


def test_sine_refuses_features_that_do_not_divide_by_4():
    with pytest.raises(UserError, match="HIDDEN_DIM"):
        PositionEmbeddingSine(num_features=18)


def test_sine_saves_nothing_in_checkpoints():
    assert not PositionEmbeddingSine(num_features=16).state_dict()


def test_learned_is_the_vector_of_the_column_then_of_the_row():
    learned = PositionEmbeddingLearned(num_features=6, max_cells=5)
    positions = learned(padding_mask((3, 5), [(3, 5), (2, 1)]), torch.float64)
    assert positions.shape == (2, 6, 3, 5)
    assert positions.dtype == torch.float64
    for row in range(3):
        for column in range(5):
            vector = torch.cat((learned.col_embed.weight[column], learned.row_embed.weight[row]))
            for image in positions:
                assert torch.equal(image[:, row, column], vector.double())


def test_learned_trains_the_vectors_that_it_uses():
    learned = PositionEmbeddingLearned(num_features=4, max_cells=5)
    learned(padding_mask((2, 3), [(2, 3)]), torch.float32).sum().backward()
    # Every row's vector is used once a column, and every column's once a row.
    assert learned.row_embed.weight.grad[:, 0].tolist() == [3, 3, 0, 0, 0]
    assert learned.col_embed.weight.grad[:, 0].tolist() == [2, 2, 2, 0, 0]


@pytest.mark.parametrize("size", [(6, 2), (2, 6)])
def test_learned_refuses_maps_beyond_its_vectors(size):
    learned = PositionEmbeddingLearned(num_features=4, max_cells=5)
    with pytest.raises(UserError, match="learned positions end at 5"):
        learned(padding_mask(size, [size]), torch.float32)
