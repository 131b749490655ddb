"""HTML pages: one way of writing them, and one stylesheet, which each page has within it."""

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(package: str, template: str, /, **facts: object) -> str:
    """A page.

    Args:
        package: whose folder has the template, which begins with `{% extends "base.html" %}`.
        template: its file.
        **facts: what it names. Text is escaped; `markupsafe.Markup` is not.

    Raises:
        jinja2.UndefinedError: where the template names something else.
    """
    return _environment(package).get_template(template).render(facts)


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__name__, ".")])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def source(file: str) -> Markup:
        """A stylesheet or a script, as it is."""
        return Markup(loader.get_source(environment, file)[0])

    environment.globals["source"] = source
    return environment
