"""Train, evaluate and measure one candidate, where that has not been done yet."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.utils.env import seed_all_rng

from ..checkpoint import Checkpointer
from ..checkpoint.files import weights_file
from ..data.files import write_text
from ..engine import Trainer
from ..engine.defaults import number_classes_like_weights
from ..evaluation import build_evaluator
from .candidates import Candidate
from .cost import measure_cost

logger = logging.getLogger(__name__)


def train(candidate: Candidate) -> str:
    """Train what has no `model_final.pth` in its OUTPUT_DIR, from where it was interrupted.

    Returns:
        The weights of the last step.
    """
    for file, cfg in zip(candidate.files, candidate.cfgs):
        weights = Path(cfg.OUTPUT_DIR, "model_final.pth")
        if weights.is_file():
            logger.info("%s: trained already, taken from %s.", candidate.name, weights)
            continue
        logger.info("%s: training %s in %s.", candidate.name, file, cfg.OUTPUT_DIR)
        _prepare(cfg)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=True)
        trainer.train()
    return str(weights)


def _prepare(cfg: CfgNode) -> None:
    """As Detectron2's `default_setup`, which would log every line once more for each training."""
    output = Path(cfg.OUTPUT_DIR)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)


def evaluate(candidate: Candidate, weights: str, folder: Path) -> dict:
    """Metrics of a candidate on its dataset; its panoptic results go below `folder`."""

    def work() -> dict:
        cfg: CfgNode = candidate.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), weights
        number_classes_like_weights(cfg)
        model = Trainer.build_model(cfg)
        checkpointer = Checkpointer.from_config(cfg, model)
        checkpointer.load(weights)
        checkpointer.require_classes()
        loader = Trainer.build_test_loader(cfg, candidate.dataset)
        return inference_on_dataset(model, loader, build_evaluator(cfg, candidate.dataset))

    return _once(folder / "evaluation.json", _fingerprint(candidate, weights), work)


def cost(candidate: Candidate, weights: str, folder: Path) -> dict:
    """See `measure_cost`."""
    return _once(
        folder / "cost.json",
        _fingerprint(candidate, weights),
        lambda: measure_cost(candidate.files[-1], candidate.overrides, weights),
    )


def _fingerprint(candidate: Candidate, weights: str) -> dict:
    """What the results of a stage depend on; where it has changed, the stage is run again."""
    stat = os.stat(weights_file(weights))
    return {"config": candidate.cfg.dump(), "weights": [weights, stat.st_size, stat.st_mtime]}


def _once(path: Path, of: dict, work: Callable[[], dict]) -> dict:
    """The results in `path` if they are results of `of`; otherwise those of `work`, kept there."""
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["of"] == of:
            logger.info("%s: done already.", path)
            return kept["results"]
    results = work()
    write_text(path, json.dumps({"of": of, "results": results}, indent=1))
    return results
