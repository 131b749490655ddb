"""The command lines: `detr-d2 COMMAND`, and tools/*.py over the same code.

A command is a module of this folder with a `main` that reads `sys.argv`.
"""

import argparse
import sys
from importlib import import_module
from types import ModuleType

from .. import __version__
from ..requirements import require_training

require_training()

from ..engine.tools import run_tool  # noqa: E402  (after the check, so that it speaks first)

COMMANDS = {
    "train": "train a model, and evaluate it",
    "eval": "evaluate a model: PQ and AP",
    "submit": "submit a training to SLURM, requeued and resumed when it is asked to end",
    "demo": "draw what a model finds in images, a dataset, a video or a camera",
    "explain": "show on a page what happens to an image inside a model",
    "compare": "train, evaluate and measure several models, in one report",
    "export": "write a model for other runtimes: ONNX, torch.export, TorchScript",
    "convert": "convert a checkpoint between this project, the official code and Hugging Face",
    "prepare": "convert your dataset to COCO's panoptic format, or complete its labels by a model",
    "validate": "find what is wrong in a dataset, and fix what can be fixed",
    "prepare-shapes": "draw the synthetic dataset",
    "visualize-data": "draw what a model is trained on",
    "visualize-results": "write a page of predictions beside their ground truth",
    "plot-training": "draw the curves of trainings",
    "draw-stages": "draw what a model made of the same images during its training",
}
_MODULES = {"eval": "train"}
_OPTIONS = {"eval": ("--eval-only",)}


def main() -> None:
    """The command line `detr-d2`."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="detr-d2",
        description="DETR and panoptic DETR on Detectron2.",
        epilog=f"commands:\n{commands}\n\n`detr-d2 COMMAND --help` has the options of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    command = parser.parse_args(sys.argv[1:2]).command
    sys.argv = [f"detr-d2 {command}", *_OPTIONS.get(command, ()), *sys.argv[2:]]
    run(command)


def run(command: str) -> None:
    """Run a command on `sys.argv`, and leave Python with its exit code."""
    run_tool(module_of(command).main)


def module_of(command: str) -> ModuleType:
    """The module of this folder that has the command."""
    return import_module(f"{__name__}.{_MODULES.get(command, command).replace('-', '_')}")
