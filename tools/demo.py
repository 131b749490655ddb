#!/usr/bin/env python
"""The command `detr-d2 demo`, which detr_d2/cli/demo.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("demo")
