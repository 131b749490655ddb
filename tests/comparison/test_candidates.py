from pathlib import Path

import pytest

from detr_d2.comparison import read_candidates
from detr_d2.errors import UserError

SHAPES = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
ONE = str(SHAPES / "panoptic_detr_R_18_narrow_dc5.yaml")
TWO = str(SHAPES / "panoptic_detr_R_18_narrow_dc5_step_two.yaml")
FPN = str(SHAPES / "panoptic_fpn_R_18_narrow.yaml")


def test_a_training_may_have_several_steps():
    detr, fpn = read_candidates([f"{ONE}+{TWO}", FPN], ["SOLVER.MAX_ITER", "7"])
    assert (detr.name, fpn.name) == (Path(TWO).stem, Path(FPN).stem)
    assert detr.files == (ONE, TWO) and detr.cfg is detr.cfgs[1]
    assert [cfg.SOLVER.MAX_ITER for cfg in (*detr.cfgs, *fpn.cfgs)] == [7, 7, 7]
    assert detr.dataset == fpn.dataset == "shapes_panoptic_val"


@pytest.mark.parametrize(
    "configs, overrides, message",
    [
        ([ONE, "nowhere.yaml"], [], r"no configuration nowhere\.yaml"),
        ([ONE, ONE], [], "have the file name panoptic_detr"),
        ([ONE, FPN], ["OUTPUT_DIR", "out"], "have the OUTPUT_DIR out"),
        ([ONE], ["MODEL.META_ARCHITECTURE", "DETR"], "is a DETR, which gives no panoptic"),
    ],
)
def test_what_cannot_be_compared_is_said(configs, overrides, message):
    with pytest.raises(UserError, match=message):
        read_candidates(configs, overrides)


def test_one_dataset_for_all(tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(f'_BASE_: "{FPN}"\nDATASETS:\n  TEST: ("shapes_panoptic_train",)\n')
    with pytest.raises(UserError, match=r"other\.yaml and .* have other DATASETS\.TEST"):
        read_candidates([ONE, str(other)], [])
