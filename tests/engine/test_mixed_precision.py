"""SOLVER.AMP: a few steps of training in each precision, beside the same steps in float32."""

from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage

from detr_d2.engine import setup_cfg
from detr_d2.engine.trainer import Trainer
from detr_d2.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG = CONFIGS / "Shapes-PanopticSegmentation" / "panoptic_detr_R_18_narrow_dc5.yaml"
AMP = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION")
STEPS = 3


@pytest.fixture
def build_trainer(shapes, tmp_path):
    """A function that builds a trainer of a small model: the same model and images each time."""

    def build(*overrides) -> Trainer:
        small = [
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
            *("MODEL.DETR.ENC_LAYERS", 1, "MODEL.DETR.DEC_LAYERS", 2, "MODEL.WEIGHTS", ""),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", STEPS),
            *("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path)),
        ]
        torch.manual_seed(0)
        return Trainer(setup_cfg(str(CONFIG), [*small, *overrides]))

    return build


def losses_of_steps(trainer: Trainer) -> list[dict]:
    """The losses of each of a few steps by name, all of float32."""
    torch.manual_seed(0)
    losses = []
    trainer.model.register_forward_hook(lambda module, inputs, outputs: losses.append(outputs))
    with EventStorage() as storage:
        for trainer.iter in range(STEPS):
            trainer.run_step()
            storage.step()
    assert {loss.dtype for step in losses for loss in step.values()} == {torch.float32}
    return [{name: loss.item() for name, loss in step.items()} for step in losses]


def compare_with_float32(build_trainer, precision, tolerance, *overrides):
    plain = build_trainer(*overrides)
    mixed = build_trainer(*overrides, *AMP, precision)
    before = {name: p.detach().clone() for name, p in mixed.model.named_parameters()}
    wanted, found = losses_of_steps(plain), losses_of_steps(mixed)
    assert wanted != found
    for step, (losses, plain_losses) in enumerate(zip(found, wanted, strict=True)):
        for name, loss in losses.items():
            assert loss == pytest.approx(plain_losses[name], rel=tolerance), (step, name)
    for name, parameter in mixed.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


def test_bfloat16_on_the_cpu_trains_as_float32(build_trainer):
    compare_with_float32(build_trainer, "bfloat16", 0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs a GPU")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_on_a_gpu_trains_as_float32(build_trainer, precision):
    compare_with_float32(build_trainer, precision, 0.1, "MODEL.DEVICE", "cuda")


def test_training_goes_on_from_a_checkpoint_of_another_precision(build_trainer):
    plain = build_trainer()
    losses_of_steps(plain)
    mixed = build_trainer(*AMP, "bfloat16")
    mixed._trainer.load_state_dict(plain._trainer.state_dict())
    state = mixed._trainer.state_dict()
    steps = {int(s["step"]) for s in state["optimizer"]["state"].values()}
    assert steps == {STEPS}
    build_trainer()._trainer.load_state_dict(state)


def test_float16_on_the_cpu_is_refused(build_trainer):
    with pytest.raises(UserError, match="set bfloat16"):
        build_trainer(*AMP, "float16")


def test_another_precision_is_refused(build_trainer):
    with pytest.raises(UserError, match="float16, bfloat16"):
        build_trainer(*AMP, "float8")
