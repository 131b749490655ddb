"""One way of writing pages, one stylesheet."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

import detr_d2
from detr_d2.pages import render

PACKAGE = Path(detr_d2.__file__).parent


def report(**facts) -> str:
    return render("detr_d2.comparison", "report.html", zip=zip, **facts)


def test_what_is_filled_in_is_text():
    page = report(title="<b>'&", sections=[])
    assert "<title>&lt;b&gt;&#39;&amp;</title>" in page and "<b>" not in page


def test_the_stylesheet_is_within_as_it_is():
    stylesheet = (PACKAGE / "pages" / "page.css").read_text()
    assert stylesheet.count("{") == stylesheet.count("}") > 100
    assert stylesheet in report(title="", sections=[])


def test_a_name_that_is_not_given_is_no_empty_place():
    with pytest.raises(UndefinedError, match="sections"):
        report(title="")


def test_pages_have_no_style_of_their_own():
    assert [p.name for p in PACKAGE.rglob("*.css")] == ["page.css"]
    pages = [p for p in PACKAGE.rglob("*.html") if "extends" in p.read_text()]
    assert len(pages) >= 4
    for page in PACKAGE.rglob("*.html"):
        assert "<style" not in page.read_text() or page.name == "base.html"
    for module in PACKAGE.rglob("*.py"):
        assert "<html" not in module.read_text() and "</" not in module.read_text(), module
