"""No evaluation of a training is lost, whenever the training is interrupted."""

import os
import signal

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from detr_d2.engine.preemption import RESUME_ME
from detr_d2.engine.trainer import Trainer
from tests.engine.test_resume import ITERATIONS, Killed, same, train
from tests.two_processes import on_two_processes

OVERRIDES = ("DATALOADER.NUM_WORKERS", "0", "SEED", "5", "TEST.EVAL_PERIOD", "2")


@pytest.fixture
def evaluate(monkeypatch):
    """A function that lets evaluations give numbers that follow from the weights, after `before`
    has been called with the number of the evaluation. It returns where they are put down:
    (iteration of the trainer, of what is written, number)."""

    def let(before=lambda number: None):
        numbers, done = iter(range(100)), []

        def test(self, cfg, model):
            before(next(numbers))
            weights = torch.cat([x.flatten().double() for x in model.state_dict().values()])
            done.append((self.iter, get_event_storage().iter, weights.sum().item()))
            return {"panoptic_seg": {"PQ": done[-1][-1]}}

        monkeypatch.setattr(Trainer, "test", test)
        return done

    return let


def kill(number):
    if number == 1:
        raise Killed


def send_signal(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it should have ended")


@pytest.mark.parametrize("period", ["2", "100"])
@pytest.mark.parametrize("interrupt", [kill, send_signal])
def test_one_that_was_interrupted_is_done_when_the_training_resumes(
    shapes, tmp_path, evaluate, interrupt, period
):
    if (interrupt, period) == (kill, "100"):
        pytest.skip("without a checkpoint, the training begins anew")
    of_whole = evaluate()
    whole = train(tmp_path / "whole", *OVERRIDES)
    overrides = (*OVERRIDES, "SOLVER.CHECKPOINT_PERIOD", period)
    of_ended = evaluate(interrupt)
    with pytest.raises((Killed, SystemExit)) as ended:
        train(tmp_path / "ended", *overrides)
    assert interrupt is kill or ended.value.code == RESUME_ME
    assert (tmp_path / "ended" / "last_checkpoint").read_text() == "model_0000003.pth"
    of_resumed = evaluate()
    assert same(train(tmp_path / "ended", *overrides, resume=True), whole)
    assert [i for i, *_ in of_whole] == [1, 3, 5, ITERATIONS]
    assert of_ended + of_resumed == of_whole
    best = [
        torch.load(tmp_path / folder / "model_best.pth", weights_only=True)
        for folder in ("ended", "whole")
    ]
    assert best[0]["iteration"] == best[1]["iteration"] and same(best[0]["model"], best[1]["model"])


def test_what_was_evaluated_is_not_evaluated_again(shapes, tmp_path, evaluate):
    done = evaluate()
    with pytest.raises(Killed):
        train(tmp_path, *OVERRIDES, "TEST.EVAL_PERIOD", "20", "SOLVER.MAX_ITER", "22", killed_at=20)
    assert [i for i, *_ in done] == [19]
    train(tmp_path, *OVERRIDES, "TEST.EVAL_PERIOD", "20", "SOLVER.MAX_ITER", "22", resume=True)
    assert [i for i, *_ in done] == [19, 22]


def test_the_last_one_that_is_ended_is_done_again(shapes, tmp_path, evaluate):
    overrides = (*OVERRIDES, "TEST.EVAL_PERIOD", "0", "SOLVER.MAX_ITER", "2")
    evaluate(lambda number: send_signal(1))
    with pytest.raises(SystemExit) as ended:
        train(tmp_path, *overrides)
    assert ended.value.code == RESUME_ME
    assert sorted(file.name for file in tmp_path.glob("model_*")) == [
        *("model_0000001.pth", "model_final.pth")
    ]
    done = evaluate()
    train(tmp_path, *overrides, resume=True)
    assert len(done) == 1


def statistics_of_evaluations(rank, folder):
    """What the models know of batch norm that each of two processes evaluates."""
    torch.set_num_threads(1)
    comm.create_local_process_group(2)
    seen = []

    def test(self, cfg, model):
        seen.append(torch.cat([x.flatten().double() for x in model.buffers()]))
        return {}

    Trainer.test = test
    train(folder, *OVERRIDES)
    return [x.tolist() for x in seen]


def test_all_processes_evaluate_what_the_first_would_save(shapes, tmp_path):
    first, second = on_two_processes(statistics_of_evaluations, tmp_path)
    assert len(first) == 4 and first == second and first[0] != first[1]
