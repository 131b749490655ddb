import torch
from torchvision.ops import box_convert, generalized_box_iou

from detr_d2.modeling.boxes import (
    absolute_xyxy,
    enlarged,
    generalized_iou,
    pixels_xyxy,
    relative_cxcywh,
)

# An image of height 10 and width 20.
PIXELS = torch.tensor([[0.0, 0.0, 20.0, 10.0], [5.0, 2.0, 15.0, 4.0]])
RELATIVE = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.3, 0.5, 0.2]])


def test_relative_by_hand():
    torch.testing.assert_close(relative_cxcywh(PIXELS, (10, 20)), RELATIVE)


def test_absolute_by_hand():
    torch.testing.assert_close(absolute_xyxy(RELATIVE, (10, 20)), PIXELS)


def test_boxes_of_several_images_by_hand():
    sizes = torch.tensor([[[20.0, 10.0]], [[40.0, 10.0]]])
    wide = PIXELS * torch.tensor([2.0, 1.0, 2.0, 1.0])
    boxes = RELATIVE.expand(2, -1, -1)
    torch.testing.assert_close(pixels_xyxy(boxes, sizes), torch.stack((PIXELS, wide)))


def test_enlarging_keeps_the_centre():
    wanted = torch.tensor([[0.5, 0.5, 1.5, 1.5], [0.5, 0.3, 0.75, 0.3]])
    torch.testing.assert_close(enlarged(RELATIVE, 1.5), wanted)


def test_no_box_and_float64_stay_as_they_are():
    none = torch.zeros(0, 4, dtype=torch.float64)
    for convert in (relative_cxcywh, absolute_xyxy):
        assert convert(none, (10, 20)).shape == (0, 4)
        assert convert(none, (10, 20)).dtype == torch.float64


def test_giou_of_all_pairs_is_torchvisions():
    boxes, others = (
        torch.cat((torch.rand(n, 2), 0.1 + torch.rand(n, 2)), dim=1).double() for n in (6, 4)
    )
    corners = (box_convert(x, "cxcywh", "xyxy") for x in (boxes, others))
    torch.testing.assert_close(
        generalized_iou(boxes[:, None], others), generalized_box_iou(*corners), rtol=0, atol=1e-12
    )


def test_giou_of_no_box():
    assert generalized_iou(torch.zeros(3, 1, 4), torch.zeros(0, 4)).shape == (3, 0)


def test_giou_of_boxes_without_area_is_a_number():
    # A point with itself, with another point, with the box that it is in.
    point, other, box = ([0.5, 0.5, 0.0, 0.0], [0.25, 0.5, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0])
    giou = generalized_iou(torch.tensor([point]), torch.tensor([point, other, box]))
    assert giou.tolist() == [0.0, 0.0, 0.0]
