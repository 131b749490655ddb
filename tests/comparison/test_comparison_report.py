import re
from html.parser import HTMLParser

from PIL import Image

from detr_d2.comparison.report import Section, as_html, as_markdown, photograph, write_report
from detr_d2.comparison.tables import Table

TABLE = Table(["", "a<b", "c|d"], [["PQ", "1.0", "2.0"]], [1])


def sections():
    picture = photograph("one", 'a "caption" & <more>', Image.new("RGB", (8, 6), "red"))
    return [Section("Numbers", "Some text.", [TABLE]), Section("Pictures", pictures=[picture])]


class Checker(HTMLParser):
    """Collects what a page loads, and checks that what is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("img", "link", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_loads_nothing_and_escapes_all():
    checker = Checker()
    page = as_html("A & B", sections())
    checker.feed(page)
    assert checker.open == [] and "<script" not in page
    icon, picture = checker.sources
    assert icon == "data:," and picture.startswith("data:image/jpeg;base64,")
    assert {"A & B", "a<b", "c|d", 'a "caption" & <more>'} <= set(checker.text)
    assert '<td class="number">1.0</td><td class="number best">2.0</td>' in page


def test_markdown_has_tables_and_pictures():
    text = as_markdown("Title", sections())
    assert text.startswith("# Title\n\n## Numbers\n\nSome text.\n\n")
    assert "|  | a<b | c\\|d |\n| --- | ---: | ---: |\n| PQ | 1.0 | **2.0** |" in text
    assert "](pictures/one.jpg)" in text


def test_files_are_written_with_nothing_left_beside_them(tmp_path):
    markdown, page = write_report(tmp_path / "out", "Title", sections())
    files = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"report.md", "report.html", "pictures/one.jpg"}
    assert page.read_text() == as_html("Title", sections())
    for name in re.findall(r"\]\((.*?)\)", markdown.read_text()):
        assert Image.open(tmp_path / "out" / name).size == (8, 6)
