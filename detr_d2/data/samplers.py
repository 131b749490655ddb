"""Which image comes next: `DATALOADER.SAMPLER_TRAIN`, of panoptic data as of instances."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from torch.utils.data import Sampler

from ..errors import UserError

_NAMES = (
    "TrainingSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "WeightedTrainingSampler",
    "WeightedCategoryTrainingSampler",
)


Datasets = Sequence[tuple[str, list[dict]]]  # names, and what each has


def build_training_sampler(cfg: CfgNode, datasets: Datasets, seed: int) -> Sampler:
    """Detectron2's sampler of that name, for the dicts of all datasets one after the other.

    It gives the images of all processes, which `TrainingBatches` shares out.

    Args:
        datasets: those of `DATASETS.TRAIN`, in order.
        seed: the same in all processes.

    Raises:
        UserError: where there is no such sampler, or a factor of a dataset is not its own.
    """
    sampler = _of_one_process(cfg, datasets, seed)
    sampler._rank, sampler._world_size = 0, 1
    return sampler


def _of_one_process(cfg: CfgNode, datasets: Datasets, seed: int) -> Any:
    name, loader = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER
    size = sum(len(dicts) for _, dicts in datasets)
    if name not in _NAMES:
        raise UserError(f"DATALOADER.SAMPLER_TRAIN is {name}: set one of {', '.join(_NAMES)}.")
    if name == "TrainingSampler":
        return TrainingSampler(size, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        # The subset is the same when training resumes, in another order.
        subset = cfg.SEED if cfg.SEED >= 0 else seed
        return RandomSubsetTrainingSampler(
            size, loader.RANDOM_SUBSET_RATIO, seed_shuffle=seed, seed_subset=subset
        )
    if name == "RepeatFactorTrainingSampler":
        factors = repeat_factors([d for _, dicts in datasets for d in dicts], loader)
    else:
        factors = _of_datasets(cfg, datasets)
        if name == "WeightedCategoryTrainingSampler":
            of_classes = [repeat_factors(dicts, loader) for _, dicts in datasets]
            factors = factors * torch.cat(of_classes)
            factors = factors / factors.min()
    return RepeatFactorTrainingSampler(factors, seed=seed)


def repeat_factors(dataset_dicts: list[dict], loader: CfgNode) -> torch.Tensor:
    """How often each image comes, by its rarest class; of segments where there are some.

    Args:
        loader: the node DATALOADER, with REPEAT_THRESHOLD and REPEAT_SQRT.

    Returns:
        (images,) float32, from 1.
    """
    labelled = [
        {"annotations": d.get("segments_info", d.get("annotations"))} for d in dataset_dicts
    ]
    return RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        labelled, loader.REPEAT_THRESHOLD, sqrt=loader.REPEAT_SQRT
    )


def _of_datasets(cfg: CfgNode, datasets: Datasets) -> torch.Tensor:
    """(images,), the factor of the dataset of each in DATASETS.TRAIN_REPEAT_FACTOR, or 1."""
    factor_of = dict(cfg.DATASETS.TRAIN_REPEAT_FACTOR)
    if unknown := factor_of.keys() - {name for name, _ in datasets}:
        raise UserError(
            f"DATASETS.TRAIN_REPEAT_FACTOR names {', '.join(sorted(unknown))}, which "
            "DATASETS.TRAIN does not: name datasets of it."
        )
    sizes = torch.tensor([len(dicts) for _, dicts in datasets])
    factors = [float(factor_of.get(name, 1.0)) for name, _ in datasets]
    return torch.tensor(factors).repeat_interleave(sizes)
