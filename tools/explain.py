#!/usr/bin/env python
"""The command `detr-d2 explain`, which detr_d2/cli/explain.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("explain")
