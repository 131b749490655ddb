#!/usr/bin/env python
"""The command `detr-d2 convert`, which detr_d2/cli/convert.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("convert")
