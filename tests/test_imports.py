"""Who imports whom: nothing in the library knows an application, and parts know few others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import detr_d2

PACKAGE = Path(detr_d2.__file__).parent
BASE = {"classes", "errors", "requirements"}
# What each part of the library may import, beside itself.
LIBRARY = {
    "errors": set(),
    "requirements": {"errors"},
    "classes": {"errors"},
    "config": set(),
    "config_files": {"errors"},
    "model_kind": {"errors"},
    "part_registry": {"errors"},
    "drawing": set(),
    "pages": set(),
    "modeling": BASE | {"model_kind", "part_registry"},
    "acceleration": {"modeling"},
    "data": BASE | {"part_registry"},
    "checkpoint": BASE | {"data"},
    "evaluation": BASE | {"data", "model_kind"},
    "engine": BASE
    | {"acceleration", "checkpoint", "config", "config_files", "data", "drawing", "evaluation"}
    | {"model_kind", "modeling"},
    "model_zoo": BASE | {"checkpoint", "config_files", "engine"},
}
APPLICATIONS = {
    *("cli", "comparison", "deploy", "explain", "export", "labelling", "learning"),
    *("data.preparation", "data.validation", "evaluation.results_page"),
    *("engine.dataset_sheet", "engine.slurm", "engine.training_curves", "engine.video"),
}
OF_THE_PACKAGE = {"__init__", "__main__"}
MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def part_of(module: str) -> str:
    """The application that a module belongs to, or else the file or folder of the package."""
    for application in APPLICATIONS:
        if module == application or module.startswith(f"{application}."):
            return application
    return module.split(".")[0]


def imports_of(file: Path) -> Iterator[str]:
    """Modules of the package, wherever in the file they are imported."""
    folder = file.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (n.removeprefix("detr_d2.") for n in names if n.startswith("detr_d2"))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                module = ".".join(folder[: len(folder) + 1 - node.level])
                module = ".".join(filter(None, (module, node.module)))
            elif (node.module or "").split(".")[0] == "detr_d2":
                module = node.module.removeprefix("detr_d2").removeprefix(".")
            else:
                continue
            inner = [".".join(filter(None, (module, alias.name))) for alias in node.names]
            yield from (name if name in MODULES or not module else module for name in inner)


def test_every_module_belongs_to_a_part():
    parts = {part_of(module) for module in MODULES}
    assert parts - OF_THE_PACKAGE == LIBRARY.keys() | APPLICATIONS


@pytest.mark.parametrize("part", LIBRARY)
def test_a_part_of_the_library_imports_what_it_may(part):
    for module, file in MODULES.items():
        if part_of(module) == part:
            others = {part_of(name) for name in imports_of(file)} - {part}
            assert others <= LIBRARY[part], f"{module} imports {others - LIBRARY[part]}"


def test_only_meta_architectures_know_all_parts_of_the_model():
    parts = ("backbone", "position_encoding", "transformer", "mask_head", "criterion")
    for module, file in MODULES.items():
        if module.startswith("modeling.") and not module.startswith("modeling.meta_arch"):
            names = set(imports_of(file))
            assert not any(name.startswith("modeling.meta_arch") for name in names), module
            assert not all(f"modeling.{part}" in names for part in parts), module


def test_others_build_models_through_the_registry():
    for module, file in MODULES.items():
        if part_of(module) in ("data", "checkpoint", "evaluation", "engine"):
            names = set(imports_of(file))
            assert not any(name.startswith("modeling.meta_arch") for name in names), module


def test_the_package_does_not_know_what_lies_beside_it():
    for file in MODULES.values():
        for node in ast.walk(ast.parse(file.read_text())):
            modules = []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            assert not {"benchmarks", "tests", "tools"} & {m.split(".")[0] for m in modules}
