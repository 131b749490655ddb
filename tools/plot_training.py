#!/usr/bin/env python
"""The command `detr-d2 plot-training`, which detr_d2/cli/plot_training.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("plot-training")
