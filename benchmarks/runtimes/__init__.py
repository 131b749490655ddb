"""Runtimes that a model is exported for, each in a process of its own."""

from .asked import RuntimeProcess
from .files import FILES, installed, write_files

__all__ = ["FILES", "RuntimeProcess", "installed", "write_files"]
