"""tools/shapes_demo.py, on a handful of shapes; the steps that other tests run are only named."""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "16", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.DETR.ENC_LAYERS", "1", "MODEL.DETR.DEC_LAYERS", "1"),
    *("SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2"),
]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    spec = importlib.util.spec_from_file_location("shapes_demo", "tools/shapes_demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(demo, monkeypatch):
    """Those that the demo ran beside its training; the last leaves what an evaluation leaves."""
    found = []

    def run(command, **_):
        found.append(command[3:])
        if "--eval-only" in command:
            folder = Path(demo.results_folder(command[-1], demo.DATASET))
            folder.mkdir(parents=True)
            report = {"averages": {"all": {"pq": 0.845}}}
            (folder / "panoptic_quality.json").write_text(json.dumps(report))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(demo.subprocess, "run", run)
    return found


def test_trains_from_nothing(demo, commands, shapes, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["shapes_demo.py", "--output", str(tmp_path), *TINY])
    demo.main()
    printed = capfd.readouterr().out
    titles = re.findall(r"^=== (\d of 4)", printed, re.MULTILINE)
    assert titles == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    assert re.search(r"minutes, 4 iterations: PQ \d+\.\d \(things \d+\.\d, stuff", printed)
    assert re.search(r"demo: PQ .*\n.*trained for longer: PQ 84\.5", printed)
    assert Image.open(tmp_path / "curve.png").width > 800
    assert (tmp_path / "training" / "model_final.pth").is_file()

    tools = ["tools/prepare_shapes.py", "tools/draw_stages.py", "tools/train_net.py"]
    assert [tool for tool, *_ in commands] == tools
    assert commands[1][-len(TINY) :] == TINY  # the pictures are of the model that was trained
    for command in commands:
        for file in re.findall(r"\S+\.(?:yaml|py)\b|configs/\S+\.pth", " ".join(command)):
            assert Path(file).is_file(), file


def test_what_an_earlier_demo_left_is_removed_and_nothing_else(demo, tmp_path):
    for name in ("training/metrics.json", "curve.png", "others.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    demo.clean(*(tmp_path / name for name in ("training", "shipped", "curve.png")))
    assert [path.name for path in tmp_path.iterdir()] == ["others.txt"]


def test_a_step_that_fails_ends_the_demo_in_one_sentence(demo, monkeypatch):
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match=r"^error: step 1 of 4: draw failed, see above\.$"):
        demo.run("1 of 4: draw", ["tools/prepare_shapes.py"])
