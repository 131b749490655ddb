#!/usr/bin/env python
"""The command `detr-d2 visualize-results`, which detr_d2/cli/visualize_results.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("visualize-results")
