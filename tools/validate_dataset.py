#!/usr/bin/env python
"""The command `detr-d2 validate`, which detr_d2/cli/validate.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("validate")
