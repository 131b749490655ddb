"""Installing, importing, and what the package registers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

import detr_d2
from detr_d2 import modeling, requirements

REPOSITORY = Path(__file__).resolve().parent.parent
WITHOUT = """
import sys
sys.modules[{module!r}] = None
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == {module!r} else find_spec(name, *a)
"""


@pytest.mark.parametrize("module", ["detectron2", "cv2"])
@pytest.mark.parametrize(
    "use", ["from detr_d2 import modeling", "import detr_d2.engine", "import detr_d2.cli"]
)
def test_what_is_missing_is_said_in_one_sentence(module, use):
    command = [sys.executable, "-c", WITHOUT.format(module=module) + use]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert f"MissingPackageError: detr_d2 needs {module}" in last and "make env" in last


def test_what_is_imported_is_declared_or_asked_for():
    """In pyproject.toml, or in one sentence where it is missing."""
    package = Path(detr_d2.__file__).parent
    imported = set()
    of_benchmarks = (package.parent / "benchmarks").rglob("*.py")
    for file in (*package.rglob("*.py"), *of_benchmarks):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    project = (package.parent / "pyproject.toml").read_text()
    dependencies = project.split("dependencies = [")[1].split("\n]")[0]
    declared = set(re.findall(r"^ +\"([a-z0-9]+)", dependencies, re.M))
    names = {"PIL": "pillow", "yaml": "pyyaml"}
    imported -= {"detr_d2", *sys.stdlib_module_names}
    needed = {names.get(name, name) for name in imported}
    assert needed - declared == set(requirements.HOW_TO_GET)
    assert declared <= needed


def test_nothing_needs_panopticapi_to_be_imported():
    package = Path(detr_d2.__file__).parent
    names = [".".join(p.relative_to(package.parent).with_suffix("").parts) for p in files(package)]
    assert len(names) > 100
    code = WITHOUT.format(module="panopticapi") + "import importlib\n"
    code += f"for name in {names}: importlib.import_module(name)\n"
    command = [sys.executable, "-W", "ignore", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert finished.returncode == 0, finished.stderr


def files(package: Path) -> list[Path]:
    return [p for p in sorted(package.rglob("*.py")) if p.stem != "__init__"]


def test_parts_are_in_the_registries():
    assert "DETR" in META_ARCH_REGISTRY and "PanopticDETR" in META_ARCH_REGISTRY
    assert "build_detr_resnet_backbone" in BACKBONE_REGISTRY
    assert "PositionEmbeddingSine" in modeling.POSITION_ENCODING_REGISTRY
    assert "PositionEmbeddingLearned" in modeling.POSITION_ENCODING_REGISTRY
    assert "Transformer" in modeling.TRANSFORMER_REGISTRY
    assert "MHAttentionMap" in modeling.ATTENTION_MAP_REGISTRY
    assert "MaskHeadSmallConv" in modeling.MASK_HEAD_REGISTRY
