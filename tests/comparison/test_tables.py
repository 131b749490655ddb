import math

from detr_d2.comparison.curves import History
from detr_d2.comparison.tables import cost_table, quality_tables

RESULTS = {
    "detr": {
        "panoptic_seg": {"PQ": 50.0, "PQ_th": math.nan, "PQ_small": 10.0, "PQ-car": 30.0},
        "bbox": {"AP": 20.0, "AP-car": 20.0},
        "segm": {"AP": 21.0},
    },
    "fpn": {
        "panoptic_seg": {"PQ": 40.0, "PQ_th": 35.0, "PQ_small": 12.0, "PQ-car": 30.0},
        "bbox": {"AP": 25.0},
        "segm": {"AP": 20.0},
    },
}


def test_qualities_are_sorted_into_tables():
    tables = quality_tables(RESULTS)
    quality = tables["Panoptic quality"]
    assert quality.headers == ["percent", "detr", "fpn"]
    assert quality.rows == [["PQ all", "50.0", "40.0"], ["PQ things", "-", "35.0"]]
    assert tables["By size"].rows == [["PQ small", "10.0", "12.0"]]
    assert tables["By class"].rows == [["PQ car", "30.0", "30.0"]]
    precision = tables["Average precision of things"]
    assert precision.rows == [["box AP", "20.0", "25.0"], ["mask AP", "21.0", "20.0"]]


def test_the_best_is_marked_where_there_is_one():
    tables = quality_tables(RESULTS)
    assert tables["Panoptic quality"].best == [0, None]
    assert tables["By class"].best == [None]
    assert tables["Average precision of things"].best == [1, 0]
    alike = {"a": {"panoptic_seg": {"PQ": 50.01}}, "b": {"panoptic_seg": {"PQ": 50.04}}}
    assert quality_tables(alike)["Panoptic quality"].best == [None]  # both are shown as 50.0


def test_tables_without_rows_are_left_out():
    results = {"one": {"panoptic_seg": {"PQ": 1.0}}}
    assert list(quality_tables(results)) == ["Panoptic quality"]


def test_costs():
    cost = {"parameters": 2_500_000, "multiply_adds": 3e8, "seconds": 0.02, "peak_bytes": 2**21}
    costs = {"a": cost, "b": {**cost, "seconds": 0.01}}
    history = History(1000, 8000, 1800.0, [], [])
    table = cost_table(costs, {"a": history, "b": None})
    rows = {title: values for title, *values in table.rows}
    assert rows["parameters (millions)"] == ["2.50", "2.50"]
    assert rows["multiply-adds an image (10^9)"] == ["0.300", "0.300"]
    assert rows["time an image (ms)"] == ["20.0", "10.0"]
    assert rows["peak memory (MiB)"] == ["2", "2"]
    assert rows["training: images seen"] == ["8,000", "-"]
    assert rows["training: hours"] == ["0.50", "-"]
    assert table.best == [None, None, 1, None, None, None, None]
