"""What the model's savings are worth: time, memory and agreement against a plain reference.

docs/benchmark.md says how it measures.
"""

from .exactness import check_exactness
from .measure import measure, measure_alone, works_of
from .report import machine, markdown, plain_text, write
from .settings import Settings, quick
from .variants import Variant, default_variants
from .works import FURTHER_WORKS, WORKS

__all__ = [
    "FURTHER_WORKS",
    "WORKS",
    "Settings",
    "Variant",
    "check_exactness",
    "default_variants",
    "machine",
    "markdown",
    "measure",
    "measure_alone",
    "plain_text",
    "quick",
    "works_of",
    "write",
]
