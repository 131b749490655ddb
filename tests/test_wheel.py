"""The wheel is complete: what it holds, and that it works in a folder without the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
USE = """
import detr_d2
from detr_d2 import cli, model_zoo
assert detr_d2.__file__.startswith({folder!r}), detr_d2.__file__
name = "Shapes-PanopticSegmentation/panoptic_detr_R_18_narrow_dc5"
print(type(model_zoo.get(name, trained=True, device="cpu")).__name__)
import sys
sys.argv = ["detr-d2", "demo", "--config-file", name, "--input", "a.png", "--output", "out",
            "MODEL.WEIGHTS", model_zoo.get_checkpoint_url(name)]
cli.main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built of what git would commit, as `python -m build` does, without a download."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("tests/", "docs/")) and (REPOSITORY / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    command += ["--no-index", "-w", str(folder), str(folder / "source")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_it_holds_the_whole_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = REPOSITORY / "detr_d2"
    files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {f"detr_d2/{p.relative_to(package).as_posix()}" for p in files}
    configs = REPOSITORY / "configs"
    files = [p for p in configs.rglob("*") if p.is_file()]
    wanted |= {f"detr_d2/configs/{p.relative_to(configs).as_posix()}" for p in files}
    assert len(wanted) > 200 and any(name.endswith(".pth") for name in wanted)
    assert not wanted - names
    others = {name for name in names - wanted if ".dist-info/" not in name}
    assert not others
    for name in ("LICENSE", "NOTICE"):
        assert any(n.endswith(f".dist-info/licenses/{name}") for n in names)


def test_it_works_without_the_repository(wheel, tmp_path):
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    Image.fromarray(np.full((48, 64, 3), 128, np.uint8)).save(tmp_path / "a.png")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # Before the project's own entry in site-packages.
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n" + USE.format(
        folder=str(installed)
    )
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "PanopticDETR" in finished.stdout and "1 pictures in out" in finished.stdout
    assert (tmp_path / "out" / "a.png").is_file()
