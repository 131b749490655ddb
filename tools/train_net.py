#!/usr/bin/env python
"""The command `detr-d2 train`, which detr_d2/cli/train.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("train")
