#!/usr/bin/env python3
"""Make a virtual environment with all that the project needs, from a package registry alone.

An environment that can import Detectron2 already is kept as it is: only what is missing is added.
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
THIRD_PARTY = ROOT / "requirements-third-party.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=ROOT / ".venv",
        help="the virtual environment, made if it does not exist (default: .venv)",
    )
    folder = parser.parse_args().folder.resolve()
    python = folder / "bin" / "python"
    ready = folder / "detr_d2-is-ready"
    recipe = _recipe()
    if ready.is_file() and ready.read_text() == recipe:
        return
    if not python.exists():
        if not (3, 10) <= sys.version_info[:2] <= (3, 12):
            sys.exit(
                f"error: Python {sys.version_info[0]}.{sys.version_info[1]} has no numpy 1, which "
                "the pinned Detectron2 needs: run make with PYTHON=python3.10, 3.11 or 3.12."
            )
        print(f"Making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    constraints = ["-c", str(CONSTRAINTS)]
    if _can_import(python, "detectron2"):
        print("Keeping the Detectron2 that is there, and its PyTorch.", flush=True)
        constraints = []
        _pip(python, "setuptools>=77,<82")  # what pyproject.toml is built with; pkg_resources
        if not _can_import(python, "cv2"):  # upstream does not bring it; 4.12 wants numpy 2
            _pip(python, "opencv-python-headless<4.12")
    else:
        print("Downloading PyTorch and what Detectron2 stands on (about 5 GB).", flush=True)
        _pip(python, "-r", str(CONSTRAINTS))
    for module, package in (("detectron2", "sal-detectron2"), ("panopticapi", "panopticapi-lite")):
        if not _can_import(python, module):
            _install_pinned(python, package)
    _pip(python, *constraints, "--no-build-isolation", "-e", f"{ROOT}[dev]")
    subprocess.run([python, "-W", "ignore", "-c", "import detr_d2"], check=True)
    ready.write_text(recipe)
    print(f"Ready: {python}", flush=True)


def _recipe() -> str:
    """What the environment is made from; when it changes, the environment is made anew."""
    files = (CONSTRAINTS, THIRD_PARTY, ROOT / "setup.py", ROOT / "pyproject.toml", Path(__file__))
    content = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(content + str(ROOT).encode()).hexdigest()


def _can_import(python: Path, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def _pip(python: Path, *arguments: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


def _install_pinned(python: Path, package: str) -> None:
    """Install one line of THIRD_PARTY, if its hash is right.

    The wheel is tagged for CPython 3.10 although nothing in it that is used is compiled: pip takes
    it for a later Python only into a target folder.
    """
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = subprocess.check_output([python, "-c", code], text=True).strip()
    line = next(x for x in THIRD_PARTY.read_text().splitlines() if x.startswith(package))
    requirement = Path(target) / f"{package}.requirement.txt"
    requirement.write_text(line)
    try:
        _pip(
            python,
            *("--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", "3.10"),
            *("--target", target, "-r", str(requirement)),
        )
    finally:
        requirement.unlink()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: this command failed, see above: {' '.join(map(str, error.cmd))}")
