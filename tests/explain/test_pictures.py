import io
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image

from detr_d2.explain.figure import Figure, Outline
from detr_d2.explain.pictures import (
    color_of,
    colored_segments,
    magnitude,
    principal_components,
    relative,
    resized_numbers,
    signed,
)


@pytest.mark.parametrize("channels, h, w", [(6, 5, 7), (64, 5, 7), (2, 3, 3), (8, 1, 2)])
def test_principal_components_are_those_of_an_svd(channels, h, w):
    """Up to their sign, for more channels than cells and fewer."""
    features = torch.randn(channels, h, w) * torch.arange(1, channels + 1)[:, None, None]
    picture = principal_components(features)
    assert picture.shape == (h, w, 3)
    cells = features.flatten(1).T.double().numpy()
    left, values, _ = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    for component in range(min(3, len(values), h * w - 1)):
        scores = left[:, component] * values[component]
        low, high = np.percentile(scores, (1, 99))
        wanted = ((scores - low) / (high - low)).clip(0, 1) * 255
        drawn = picture[..., component].ravel().astype(float)
        assert min(abs(drawn - wanted).max(), abs(255 - drawn - wanted).max()) < 1


def test_heat():
    features = torch.tensor([[[1.0, -2.0]], [[3.0, -6.0]]])
    assert magnitude(features).tolist() == [[0.5, 1.0]]
    assert relative(torch.tensor([[1.0, 2.0]]), greatest=4).tolist() == [[0.25, 0.5]]
    assert relative(torch.zeros(1, 2)).tolist() == [[0, 0]]


def test_logits_are_blue_white_red():
    colors = signed(torch.tensor([[-50.0, 0.0, 50.0]]))[0].tolist()
    assert colors == [[33, 102, 172], [247, 247, 247], [178, 24, 43]]


def test_colours_of_100_queries_differ():
    assert len({color_of(n) for n in range(100)}) == 100


def test_segments_are_coloured_by_number():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    void, three = colored_segments(np.array([[-1, 3]]), image)[0]
    assert void.tolist() == [30, 30, 30]
    assert three.tolist() == [round(0.7 * c + 30) for c in color_of(3)]


def test_numbers_are_resized_by_nearest_neighbour():
    numbers = np.array([[5, -1], [7, 2]])
    assert resized_numbers(numbers, (4, 2)).tolist() == [[5, -1], [5, -1], [7, 2], [7, 2]]
    assert resized_numbers(np.arange(9).reshape(3, 3), (1, 1)).tolist() == [[4]]


def decoded(figure: Figure) -> np.ndarray:
    head, data = figure.for_page()["src"].split(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("RGBA"))


def test_strips_have_the_panels_side_by_side():
    black, white = np.zeros((2, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    over = decoded(Figure("a", ["x", "y"], [black, white], over_photograph=True))
    assert over.shape == (2, 6, 4)
    # Heat hides the photograph, its absence does not.
    assert (over[:, :3, 3] < 100).all()
    assert (over[:, 3:, 3] > 200).all()
    assert (over[:, :3, :3] < 10).all()
    assert (over[:, 3:, :2] > 200).all()
    assert (decoded(Figure("a", ["x"], [white]))[..., 3] == 255).all()
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    assert (decoded(Figure("a", ["x"], [picture]))[..., :3] == picture).all()
    large = np.full((80, 90, 3), 200, dtype=np.uint8)
    assert abs(decoded(Figure("a", ["x"], [large]))[..., :3].astype(int) - 200).max() < 5


def test_sheets_have_four_panels_a_row():
    photograph = np.full((10, 20, 3), 128, dtype=np.uint8)
    heat = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    sheet = Figure("a", list("abcde"), [heat] * 5, over_photograph=True).sheet(photograph)
    assert sheet.width == 4 * 244
    assert sheet.height == 2 * (120 + 22)


def test_outlines_are_drawn_on_sheets_and_given_to_the_page():
    """Those of queries that pass are thick, and on top."""
    gray = np.full((120, 240, 3), 128, dtype=np.uint8)
    box = [0.5, 0.5, 0.5, 0.5]  # from (60, 30) to (180, 90)
    outlines = [Outline(0, box), Outline(1, box, False, (0.25, 0.125))]
    figure = Figure("a", ["x", "y"], [gray, gray], outlines=[outlines, []])
    pixels = np.asarray(figure.sheet(gray).convert("RGB")).astype(int)[18:138]
    for x in (60, 61):
        assert abs(pixels[60, x] - color_of(0)).max() < 8
    assert abs(pixels[60, 62] - 128).max() < 8
    assert abs(pixels[15, 60] - color_of(1)).max() < 8
    assert abs(pixels[:, 244:484] - 128).max() < 8
    assert figure.for_page()["outlines"] == [[[0, box, []], [1, box, [0.25, 0.125]]], []]
    assert "outlines" not in Figure("a", ["x"], [gray]).for_page()
