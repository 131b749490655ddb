"""The page on which a person checks labels: one HTML file, without a server."""

from pathlib import Path

from ..data.files import write_text
from ..pages import render

_SCRIPTS = ("check_files.js", "check_labels.js", "check_dataset.js", "check_page.js")


def write_check_page(path: Path) -> None:
    """Write the page; it opens the COCO panoptic datasets that are given to it."""
    write_text(path, render(__package__, "check.html", scripts=_SCRIPTS))
