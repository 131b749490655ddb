"""A report of sections, as Markdown with its pictures beside it and as one HTML page."""

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from ..data.files import written_beside
from .tables import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em;
       color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .2em .9em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: bold; }
figure { margin: 1.5em 0; }
figcaption { color: #555; }
img { max-width: 100%; }
"""


@dataclass(frozen=True)
class Picture:
    """
    Attributes:
        name: of its file, without suffix.
        content: the file, see `photograph` and `drawing`.
        suffix: ".jpg" or ".png".
    """

    name: str
    caption: str
    content: bytes
    suffix: str


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, in this order."""

    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def photograph(name: str, caption: str, image: Image.Image) -> Picture:
    """A picture as a JPEG: `name` of its file, and the caption below it."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=85)
    return Picture(name, caption, file.getvalue(), ".jpg")


def drawing(name: str, caption: str, figure: Figure) -> Picture:
    """A figure as a PNG: `name` of its file, and the caption below it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return Picture(name, caption, file.getvalue(), ".png")


def write_report(folder: Path, title: str, sections: list[Section]) -> tuple[Path, Path]:
    """Write report.md with pictures/, and report.html, which needs no other file.

    Returns:
        The two files.
    """
    for picture in (p for section in sections for p in section.pictures):
        _write(folder / "pictures" / f"{picture.name}{picture.suffix}", picture.content)
    markdown, page = folder / "report.md", folder / "report.html"
    _write(markdown, as_markdown(title, sections).encode())
    _write(page, as_html(title, sections).encode())
    return markdown, page


def _write(path: Path, content: bytes) -> None:
    with written_beside(path) as unfinished:
        unfinished.write_bytes(content)


def as_markdown(title: str, sections: list[Section]) -> str:
    """The report's text; pictures are files of the folder pictures/ beside it."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        parts += [_markdown_table(table) for table in section.tables]
        for picture in section.pictures:
            parts.append(f"![{picture.caption}](pictures/{picture.name}{picture.suffix})")
            parts.append(picture.caption)
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    headers, *rows = (
        [text.replace("|", "\\|") for text in row] for row in [table.headers, *table.rows]
    )
    lines = [headers, ["---", *("---:" for _ in headers[1:])]]
    for (title, *values), best in zip(rows, table.best):
        lines.append([title, *(f"**{v}**" if n == best else v for n, v in enumerate(values))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_html(title: str, sections: list[Section]) -> str:
    """One page that loads nothing: pictures are inside, and there are no scripts."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts += [f"<p>{html.escape(text)}</p>" for text in section.text.split("\n\n") if text]
        parts += [_html_table(table) for table in section.tables]
        parts += [_html_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</body></html>", ""])


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in table.headers)
    lines = [f"<table><tr>{head}</tr>"]
    for (title, *values), best in zip(table.rows, table.best):
        cells = [f"<td>{html.escape(title)}</td>"]
        for number, value in enumerate(values):
            cell = '<td class="best">' if number == best else "<td>"
            cells.append(f"{cell}{html.escape(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table>"])


def _html_picture(picture: Picture) -> str:
    kind = "jpeg" if picture.suffix == ".jpg" else "png"
    data = base64.b64encode(picture.content).decode()
    caption = html.escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
