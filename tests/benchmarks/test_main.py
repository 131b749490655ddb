"""`python -m benchmarks`, on a single small work."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=300
    )


def test_measures_and_writes(tmp_path):
    finished = run(
        "--quick", "--works", "merging", "--variants", "reference", "fast", "--output", tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    assert "post-processing, 72x96, 5 of 20 queries kept" in finished.stdout
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert [row["variant"] for row in content["rows"]] == ["reference", "fast"]
    assert content["exactness"]["float64_masks"] < 1e-9
