import torch

from detr_d2.modeling.boxes import absolute_xyxy, relative_cxcywh

# An image of height 10 and width 20.
PIXELS = torch.tensor([[0.0, 0.0, 20.0, 10.0], [5.0, 2.0, 15.0, 4.0]])
RELATIVE = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.3, 0.5, 0.2]])


def test_relative_by_hand():
    torch.testing.assert_close(relative_cxcywh(PIXELS, (10, 20)), RELATIVE)


def test_absolute_by_hand():
    torch.testing.assert_close(absolute_xyxy(RELATIVE, (10, 20)), PIXELS)


def test_no_box_and_float64_stay_as_they_are():
    none = torch.zeros(0, 4, dtype=torch.float64)
    for convert in (relative_cxcywh, absolute_xyxy):
        assert convert(none, (10, 20)).shape == (0, 4)
        assert convert(none, (10, 20)).dtype == torch.float64
