"""The files that the page is made of."""

from importlib.resources import files
from string import Template


def template(name: str) -> Template:
    return Template(text(name))


def text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
