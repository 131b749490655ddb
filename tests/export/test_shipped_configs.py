"""Of each kind of model that is configured here: it is exported, or refused in one sentence."""

from pathlib import Path

import pytest
import torch
from exporting import pictures
from torch import nn

from detr_d2.engine import Predictor, setup_cfg
from detr_d2.errors import UserError
from detr_d2.export import Options, Resize, TracingAdapter, export_model

CONFIGS = Path(__file__).parents[2] / "configs"
EXPORTED = [
    "COCO-Detection/detr_R_50",
    "COCO-Detection/detr_R_101_DC5",
    "COCO-PanopticSegmentation/panoptic_detr_R_50",
    "COCO-PanopticSegmentation/panoptic_detr_R_101",
    "COCO-PanopticSegmentation/panoptic_detr_fast_R_50",
    "COCO-PanopticSegmentation/panoptic_detr_fast_R_50_finetune",
    "COCO-PanopticSegmentation/panoptic_detr_fast_X_50_32x4d",
    "CamVid-PanopticSegmentation/panoptic_detr_R_18",
    "CamVid-PanopticSegmentation/panoptic_detr_thin_fast",
]
PADDED = {
    "COCO-PanopticSegmentation/panoptic_detr_fast_ViT_B": "ViTPyramid",
    "COCO-PanopticSegmentation/panoptic_detr_fast_swin_T": "Swin",
    "COCO-PanopticSegmentation/panoptic_detr_fast_timm_convnext_T": "TimmBackbone",
}
# All parts and the depth are the configuration's; widths and pictures are small.
SMALL = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "32", "MODEL.RESNETS.RES2_OUT_CHANNELS", "32"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "2", "MODEL.DETR.HIDDEN_DIM", "128"),
    *("MODEL.DETR.DIM_FEEDFORWARD", "64", "MODEL.DETR.ENC_LAYERS", "1"),
    *("MODEL.DETR.DEC_LAYERS", "2", "MODEL.DETR.NUM_OBJECT_QUERIES", "20"),
    *("INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "107"),
    # Of random weights few masks win what they claim.
    *("MODEL.DETR.PANOPTIC.SCORE_THRESHOLD", "0.1", "MODEL.DETR.PANOPTIC.LEAST_SHARE", "0.0"),
]


def config_of(name: str, *overrides: str):
    of_data = []
    if name.startswith("CamVid"):  # its photographs are not here
        of_data = ["DATASETS.TRAIN", "('shapes_panoptic_train',)", "MODEL.DETR.NUM_CLASSES", "8"]
        of_data += ["DATASETS.TEST", "('shapes_panoptic_val',)"]
    overrides = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *SMALL, *of_data, *overrides]
    return setup_cfg(str(CONFIGS / f"{name}.yaml"), overrides)


@torch.no_grad()
def decide(model: nn.Module) -> None:
    """Let random weights have classes and masks that differ, so that the map is put to the test."""
    model.class_embed.weight.mul_(20)
    model.class_embed.bias[-1] = -100  # no-object
    if not hasattr(model, "mask_head"):
        return
    model.bbox_attention.q_linear.weight.mul_(4)
    model.mask_head.lay1.weight[:, 128:].mul_(300)
    model.mask_head.out_lay.bias.add_(6)  # more than the log-odds of 133 classes take away
    if hasattr(model.mask_head, "semantic"):
        model.mask_head.semantic_gain.fill_(1.0)
        for module in model.mask_head.semantic.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(5)


@pytest.mark.parametrize("name", EXPORTED)
def test_is_exported(name, shapes, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    cfg = config_of(name)
    predictor = Predictor(cfg)
    decide(predictor.model)
    _, table = export_model(cfg, predictor, tmp_path, pictures(shapes), Options("onnx"))
    if hasattr(predictor.model, "mask_head"):  # and the check has had a map to compare
        assert sum(int(line.split("|")[5]) for line in table.splitlines()[2:5]) > 0


@pytest.mark.parametrize("name", PADDED)
def test_is_refused_in_one_sentence(name):
    pytest.importorskip("timm", reason="timm is not installed")
    predictor = Predictor(config_of(name, "MODEL.TIMM.PRETRAINED", "False"))
    with pytest.raises(UserError, match=f"MODEL.BACKBONE.NAME gives a {PADDED[name]}"):
        TracingAdapter(predictor.model, Resize(64, 107))
