#!/usr/bin/env python
"""The command `detr-d2 draw-stages`, which detr_d2/cli/draw_stages.py has."""

from detr_d2.cli import run

if __name__ == "__main__":
    run("draw-stages")
