from pathlib import Path

import pytest

import benchmarks
from benchmarks.variants import default_variants

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings() -> benchmarks.Settings:
    """Everything in miniature, but for what needs further processes."""
    config = "configs/COCO-PanopticSegmentation/panoptic_detr_R_50_joint.yaml"
    return benchmarks.quick(
        config_file=str(REPOSITORY / config),
        variants=default_variants("cpu"),
        works=tuple(benchmarks.WORKS),
        threads=1,
        peak_on_cpu=False,
    )
