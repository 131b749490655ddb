#!/usr/bin/env python
"""The command `detr-d2 compare`, which detr_d2/cli/compare.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("compare")
