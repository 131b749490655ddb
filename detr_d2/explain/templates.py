"""The files that the page is made of."""

from importlib.resources import files
from string import Template


def template(name: str) -> Template:
    """A file of this folder, with places to fill in."""
    return Template(text(name))


def text(name: str) -> str:
    """A file of this folder, as it is."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
