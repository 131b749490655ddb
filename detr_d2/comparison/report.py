"""A report of sections, as Markdown with its pictures beside it and as one HTML page."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from ..data.files import written_beside
from ..pages import render
from .tables import Table


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

    def as_data(self) -> str:
        """Its address in a page, which is the picture itself."""
        kind = "jpeg" if self.suffix == ".jpg" else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


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
    return render(__package__, "report.html", title=title, sections=sections, zip=zip)
