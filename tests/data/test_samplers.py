"""Detectron2's samplers, for panoptic data as for instances."""

import itertools
import math

import pytest
import torch
from detectron2.config import get_cfg

from detr_d2 import add_detr_config
from detr_d2.data.samplers import build_training_sampler, repeat_factors
from detr_d2.errors import UserError


def images(*classes: list[int], key: str = "segments_info") -> list[dict]:
    return [{key: [{"category_id": c} for c in of_image]} for of_image in classes]


def sampler_of(datasets: dict[str, list[dict]], *overrides):
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_list(["DATALOADER.REPEAT_THRESHOLD", 0.5, *overrides])
    return build_training_sampler(cfg, list(datasets.items()), seed=3)


def counts_of(sampler, size: int, drawn: int = 4000) -> list[float]:
    numbers = torch.tensor(list(itertools.islice(iter(sampler), drawn)))
    return (numbers.bincount(minlength=size) / drawn).tolist()


@pytest.mark.parametrize("key", ["segments_info", "annotations"])
def test_factors_are_the_formula(key):
    """max over an image's classes of max(1, sqrt(t / f)), f the share of images with the class."""
    dicts = images([0], [0, 1], [0], [0], [0, 0], [0], [0], [2, 1], key=key)
    cfg = get_cfg().DATALOADER
    cfg.REPEAT_THRESHOLD = 0.5
    found = repeat_factors(dicts, cfg).tolist()
    one, two = math.sqrt(0.5 / (2 / 8)), math.sqrt(0.5 / (1 / 8))
    assert found == pytest.approx([1, one, 1, 1, 1, 1, 1, two])


def test_rare_classes_come_more_often():
    dicts = images(*[[0]] * 9, [1])
    shares = counts_of(
        sampler_of({"a": dicts}, "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"), 10
    )
    factor = math.sqrt(0.5 / 0.1)
    assert shares[9] == pytest.approx(factor / (9 + factor), abs=0.02)


@pytest.mark.parametrize("name", ["WeightedTrainingSampler", "WeightedCategoryTrainingSampler"])
def test_datasets_have_their_factor(name):
    datasets = {"a": images([0], [0]), "b": images([0])}
    factor = ("DATASETS.TRAIN_REPEAT_FACTOR", [("b", 3.0)])
    sampler = sampler_of(datasets, "DATALOADER.SAMPLER_TRAIN", name, *factor)
    assert counts_of(sampler, 3) == pytest.approx([0.2, 0.2, 0.6], abs=0.02)


def test_a_factor_of_a_dataset_that_is_not_trained_on_is_refused():
    factor = ("DATASETS.TRAIN_REPEAT_FACTOR", [("c", 3.0)])
    with pytest.raises(UserError, match="names c, which"):
        sampler_of(
            {"a": images([0])}, "DATALOADER.SAMPLER_TRAIN", "WeightedTrainingSampler", *factor
        )


def test_a_subset_is_the_same_each_time():
    names = ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler")
    sampler = sampler_of(
        {"a": images(*[[0]] * 10)}, *names, "DATALOADER.RANDOM_SUBSET_RATIO", 0.4, "SEED", 5
    )
    shares = counts_of(sampler, 10, 400)
    assert sorted(shares) == pytest.approx([0] * 6 + [0.25] * 4)
    again = sampler_of(
        {"a": images(*[[0]] * 10)}, *names, "DATALOADER.RANDOM_SUBSET_RATIO", 0.4, "SEED", 5
    )
    assert counts_of(again, 10, 400) == shares


def test_by_default_every_image_comes_as_often():
    sampler = sampler_of({"a": images([0], [1]), "b": images([2])})
    assert counts_of(sampler, 3, 300) == pytest.approx([1 / 3] * 3)
