"""Sample pictures of an evaluation, in the event storage."""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from detr_d2.data import register_panoptic_dataset
from detr_d2.engine import Trainer, setup_cfg
from detr_d2.engine.sample_pictures import SamplePictures

CONFIG = "configs/Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5.yaml"


@pytest.fixture
def judged(tiny_dataset):
    """An image of the test loader, 4x6 pixels, and what a model could say of it."""
    folder, _ = tiny_dataset
    paths = (folder / "images", folder / "panoptic", folder / "panoptic.json")
    register_panoptic_dataset("judged", *map(str, paths))
    (input_,) = DatasetCatalog.get("judged")
    instances = Instances((4, 6))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    instances.scores = torch.tensor([0.9])
    instances.pred_classes = torch.tensor([0])
    info = {"id": 1, "category_id": 1, "isthing": False, "score": 0.9, "area": 24}
    panoptic_seg = torch.ones(4, 6, dtype=torch.int32)
    output = {"instances": instances, "panoptic_seg": (panoptic_seg, [info])}
    yield input_, output
    DatasetCatalog.remove("judged")
    MetadataCatalog.remove("judged")


def pictures_of(batches) -> list[tuple[str, np.ndarray, int]]:
    with EventStorage(7) as storage:
        evaluator = SamplePictures("judged", MetadataCatalog.get("judged"), 0.5)
        evaluator.reset()
        for inputs, outputs in batches:
            evaluator.process(inputs, outputs)
        assert evaluator.evaluate() is None
        return storage._vis_data


def test_the_ground_truth_stands_beside_the_prediction(judged):
    input_, output = judged
    before = copy.deepcopy(output)
    ((name, picture, iteration),) = pictures_of([([input_], [output])])
    assert (name, iteration) == ("judged/5", 7)
    assert picture.dtype == np.uint8 and picture.shape[0] == 3
    assert picture.shape[2] == 4 * 480  # image, ground truth, panoptic, boxes
    truth, prediction = picture[:, 24:, 480:960], picture[:, 24:, 960:1440]
    assert (truth != prediction).any()
    assert output["panoptic_seg"][1] == before["panoptic_seg"][1]


def test_an_output_without_panoptic_map_and_an_image_without_ground_truth(judged):
    input_, output = judged
    del input_["pan_seg_file_name"], output["panoptic_seg"]
    ((_, picture, _),) = pictures_of([([input_], [output])])
    assert picture.shape[2] == 2 * 480  # image, boxes


def test_the_first_images_are_drawn_and_no_more(judged):
    input_, output = judged
    inputs = [{**input_, "image_id": number} for number in range(6)]
    batches = [(inputs[:3], [output] * 3), (inputs[3:], [output] * 3)]
    names = [name for name, _, _ in pictures_of(batches)]
    assert names == ["judged/0", "judged/1", "judged/2", "judged/3"]


def test_pictures_are_for_the_main_process_of_a_training(shapes, monkeypatch):
    cfg = setup_cfg(CONFIG)

    def draws() -> bool:
        evaluator = Trainer.build_evaluator(cfg, "shapes_panoptic_val")
        return any(isinstance(e, SamplePictures) for e in evaluator._evaluators)

    assert not draws()  # an evaluation alone has no TensorBoard
    with EventStorage():
        assert draws()
        monkeypatch.setattr(comm, "is_main_process", lambda: False)
        assert not draws()
