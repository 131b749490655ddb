#!/usr/bin/env python
"""The command `detr-d2 prepare-shapes`, which detr_d2/cli/prepare_shapes.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("prepare-shapes")
