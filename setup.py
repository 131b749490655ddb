"""What pyproject.toml cannot say: the wheel carries configs/, of which there is one copy, here."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path(__file__).resolve().parent / "configs"


class BuildWithConfigs(build_py):
    """Copies configs/ into the built package, as detr_d2/configs."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # then the package finds those beside it
            target = Path(self.build_lib) / "detr_d2" / "configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(CONFIGS, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        folder = Path(self.build_lib) / "detr_d2" / "configs"
        files = [str(folder / p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*") if p.is_file()]
        return super().get_outputs(include_bytecode) + files


setup(cmdclass={"build_py": BuildWithConfigs})
