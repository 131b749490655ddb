from types import SimpleNamespace

import numpy as np
import torch

from detr_d2.explain.boxes_picture import boxes_picture
from detr_d2.explain.pictures import color_of


def test_queries_that_pass_have_thick_boxes_on_top_and_labels():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.2, 0.8, 0.2, 0.2]])
    explained = SimpleNamespace(
        photograph=np.full((100, 200, 3), 128, dtype=np.uint8),
        image={"boxes": boxes, "scores": torch.tensor([0.9, 0.2, 0.3])},
        kept=[0],
        labels=["cat", "dog", "cow"],
    )
    pixels = np.asarray(boxes_picture(explained))
    assert pixels.shape == (400, 800, 3)
    # From (200, 100) to (600, 300), three pixels wide; the equal box 1 is below it.
    for x in (200, 201, 202):
        assert pixels[200, x].tolist() == list(color_of(0))
    assert pixels[200, 203].tolist() == [128, 128, 128]
    # From (80, 280) to (240, 360), one pixel wide, without a label.
    assert pixels[320, 80].tolist() == list(color_of(2))
    assert (pixels[282:359, 81:200] == 128).all()
    assert (pixels[103:125, 205:290] == 255).all(2).any()
