#!/usr/bin/env python
"""The command `detr-d2 export`, which detr_d2/cli/export.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("export")
