"""Runtimes beside each other: what they find is alike, and what they take is measured."""

from dataclasses import replace

import pytest

import benchmarks
from benchmarks.runtimes import RuntimeProcess
from benchmarks.variants import Variant
from benchmarks.works.deployment import BoxDeployment, PanopticDeployment

TWO = ("pytorch", "onnxruntime")


@pytest.fixture(scope="module")
def two_runtimes():
    """The others compile for minutes, or come in packages that nothing else needs."""
    pytest.importorskip("onnx", reason="onnx is not installed (pip install detr_d2[export])")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PanopticDeployment, "variants", [Variant(name) for name in TWO])
        yield


@pytest.fixture(scope="module")
def rows(settings, two_runtimes) -> dict:
    names = tuple(benchmarks.FURTHER_WORKS)
    works = benchmarks.works_of(replace(settings, works=names))
    found = [row for work in works for row in benchmarks.measure(work)]
    return {(row["work"], row["variant"]): row for row in found}


def test_they_find_the_same(rows):
    assert set(rows) == {(work, name) for work in benchmarks.FURTHER_WORKS for name in TWO}
    boxes, panoptic = (
        rows[kind.name, "onnxruntime"]["apart"] for kind in (BoxDeployment, PanopticDeployment)
    )
    assert boxes.keys() == {"box_pixels"} and boxes["box_pixels"] < 1e-2
    assert panoptic["box_pixels"] < 1e-2 and panoptic["pixels_per_10000"] <= 5


def test_what_they_take_is_measured(rows):
    for row in rows.values():
        assert row["cpu_median"] > 0 and row["runs"] == 2
        assert row["start_cpu_seconds"] > 0 and row["median"] < row["start_seconds"]
        assert row["file_bytes"] > 4 * 10**6 and row["resident_bytes"] > row["file_bytes"]
    small, large = (rows["box-deployment", name]["resident_bytes"] for name in reversed(TWO))
    assert small < large / 2  # what onnxruntime's has to bring is no PyTorch
    text = benchmarks.plain_text(list(rows.values()))
    assert "resident MiB" in text and "boxes of a picture, 72x96, network 80x106" in text


def test_a_process_that_ends_is_named(tmp_path, two_runtimes):
    with pytest.raises(RuntimeError, match="the process of onnxruntime has ended"):
        RuntimeProcess("onnxruntime", tmp_path, 1)
