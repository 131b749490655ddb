"""A training that is followed, played by a few lines of Python."""

import sys

import pytest

from detr_d2.learning import follow

SCRIPT = """
import json, sys, time
print("much that nobody wants to see")
lines = [
    {"iteration": 19, "total_loss": 3.0},
    {"iteration": 19, "panoptic_seg/PQ": 10.0},
    {"iteration": 39, "total_loss": 2.0},
    {"iteration": 40, "panoptic_seg/PQ": 20.0},
]
with open(sys.argv[1], "w") as file:
    for line in lines:
        text = json.dumps(line)
        file.write(text[:9]); file.flush()
        time.sleep(0.1)
        file.write(text[9:] + "\\n"); file.flush()
        time.sleep(0.2)
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_each_evaluation_is_reported_once(tmp_path, capfd, code):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "metrics.json"), str(code)]
    seen = []

    def on_evaluation(curves):
        seen.append([value for _, value in curves["panoptic_seg/PQ"]])

    assert follow(command, tmp_path, 40, on_evaluation, pause=0.05) == code
    assert seen == [[10.0], [10.0, 20.0]]
    printed = "".join(capfd.readouterr())
    assert "40/40" in printed and "loss=2.0" in printed and "nobody" not in printed


def test_a_training_that_writes_nothing(tmp_path, capfd):
    command = [sys.executable, "-c", "import sys; sys.exit('error: no dataset')"]
    assert follow(command, tmp_path, 40, pytest.fail, pause=0.05) == 1
    assert "error: no dataset" in capfd.readouterr().err


def test_an_interruption_ends_the_training(tmp_path):
    script = SCRIPT.replace("sys.exit", "time.sleep(1000); sys.exit")
    command = [sys.executable, "-c", script, str(tmp_path / "metrics.json"), "0"]

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # and not after 1000 seconds
        follow(command, tmp_path, 40, interrupt, pause=0.05)
