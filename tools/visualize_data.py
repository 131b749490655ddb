#!/usr/bin/env python
"""The command `detr-d2 visualize-data`, which detr_d2/cli/visualize_data.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("visualize-data")
