"""Frames of videos, pixel by pixel."""

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances

from detr_d2.drawing import draw_frame, draw_segments

WIDTH, HEIGHT = 480, 90  # as wide as what is not enlarged
RED, BLUE = [200, 0, 0], [0, 0, 200]
IMAGE = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


@pytest.fixture
def metadata():
    return Metadata(thing_classes=["car", "road"], thing_colors=[RED, BLUE])


def panoptic_output(ids):
    infos = [{"id": 1, "category_id": 1, "isthing": False}]
    infos.append({"id": 2, "category_id": 0, "isthing": True})
    return {"panoptic_seg": (torch.from_numpy(ids), infos)}


def test_segments_have_the_colour_of_their_class_and_white_borders(metadata):
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    ids[:, 160:320], ids[:, 320:] = 1, 2
    picture = draw_frame(IMAGE, panoptic_output(ids), metadata, 0.5)
    assert picture.shape == IMAGE.shape and picture.dtype == np.uint8
    assert (picture[:, :159] == 100).all()  # VOID
    assert (picture[:, [159, 319]] == 255).all()
    assert picture[5, 200].tolist() == [50, 50, 150] and picture[5, 400].tolist() == [150, 50, 50]
    # The name stands in the middle of its segment.
    labels = (picture[:, 160:319] != picture[5, 200]).any(2).nonzero()
    assert abs(labels[0].mean() - HEIGHT / 2) < 4 and abs(labels[1].mean() - 80) < 4


def test_a_small_image_is_enlarged_and_an_empty_map_leaves_it(metadata):
    image = IMAGE[:30, :100]
    output = {"panoptic_seg": (torch.zeros(30, 100, dtype=torch.int32), [])}
    picture = draw_frame(image, output, metadata, 0.5)
    assert picture.shape == (150, 500, 3) and (picture == 100).all()


def test_small_pictures_without_names(metadata):
    infos = [{"id": 1, "category_id": 1}]
    ids = np.ones((30, 100), np.int32)
    how = {"least_width": 150, "names": False, "opacity": 0.75}
    picture = draw_segments(IMAGE[:30, :100], ids, infos, metadata, **how)
    assert picture.shape == (60, 200, 3) and (picture == [25, 25, 175]).all()


def test_classes_without_colours_get_different_ones():
    ids = np.ones((HEIGHT, WIDTH), np.int32)
    ids[:, 240:] = 2
    metadata = Metadata(thing_classes=["car", "road"])
    picture = draw_frame(IMAGE, panoptic_output(ids), metadata, 0.5)
    assert (picture[5, 20] != picture[5, 460]).any()


def test_boxes_are_drawn_where_there_are_no_masks(metadata):
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_boxes = Boxes(torch.tensor([[100.0, 20.0, 300.0, 80.0], [0.0, 0, 50, 50]]))
    instances.scores = torch.tensor([0.9, 0.4])
    instances.pred_classes = torch.tensor([1, 0])
    picture = draw_frame(IMAGE, {"instances": instances}, metadata, 0.5)
    assert picture[60, 100].tolist() == BLUE and picture[80, 250].tolist() == BLUE
    assert (picture[:15] == 100).all()  # the second box scores too low
    assert (IMAGE == 100).all()
