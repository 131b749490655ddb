"""What the command lines in tools/ share."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image

from ..errors import UserError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool; what its user can put right ends it with one sentence and exit code 1."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` when all is written.

    So no half file is left behind. The suffix is that of `path`, for writers that go by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG."""
    with written_beside(path) as unfinished:
        picture.save(unfinished, format="PNG")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix, such as .png, .svg or .pdf."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise UserError(f"{path} is no kind of picture: end its name with .png, .svg or .pdf.")
    with written_beside(path) as unfinished:
        figure.savefig(unfinished, dpi=120)
