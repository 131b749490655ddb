#!/usr/bin/env python
"""The command `detr-d2 submit`, which detr_d2/cli/submit.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("submit")
