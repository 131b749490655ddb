"""The page on which a person checks labels: one HTML file, without a server."""

from importlib.resources import files
from pathlib import Path
from string import Template

from ..data.files import write_text

_SCRIPTS = ("check_files.js", "check_labels.js", "check_dataset.js", "check_page.js")


def write_check_page(path: Path) -> None:
    """Write the page; it opens the COCO panoptic datasets that are given to it."""
    script = "\n".join(map(_text, _SCRIPTS)).replace('"use strict";\n', "")
    page = Template(_text("check.html"))
    write_text(path, page.substitute(css=_text("check.css"), js=f'"use strict";\n{script}'))


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
