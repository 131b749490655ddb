"""Loading from and writing to the files of others: their formats, names and classes."""

from .checkpointer import Checkpointer
from .conversion import WRITERS, convert
from .formats import Checkpoint, read_checkpoint, recorded_categories

__all__ = [
    "WRITERS",
    "Checkpoint",
    "Checkpointer",
    "convert",
    "read_checkpoint",
    "recorded_categories",
]
