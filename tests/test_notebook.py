"""notebooks/panoptic_walkthrough.ipynb runs from its first cell to its last and ships no output."""

import json
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "panoptic_walkthrough.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_twenty_short_cells_without_outputs(cells):
    assert len(cells) == 20
    for cell in cells:
        assert len(cell["source"]) <= 30
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_every_cell_runs(cells, monkeypatch, capsys):
    # As Jupyter does it: one namespace, started in the notebook's folder. The checks that stand
    # in the cells are part of the run.
    monkeypatch.chdir(NOTEBOOK.parent)
    plt.switch_backend("Agg")
    shown = []

    def show():
        shown.append(len(plt.gcf().axes))
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    namespace = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        for number, cell in enumerate(cells, 1):
            if cell["cell_type"] == "code":
                code = compile("".join(cell["source"]), f"cell {number}", "exec")
                exec(code, namespace)
    assert len(shown) >= 14 and min(shown) >= 1

    # What the story needs to be worth telling: things and stuff, found.
    infos = namespace["image"].output["panoptic_seg"][1]
    assert {info["isthing"] for info in infos} == {True, False}
    printed = capsys.readouterr().out
    for name in ("memory", "hs", "maps", "mask_logits", "panoptic_seg", "kept"):
        assert name in printed
