"""What the command lines in tools/ share."""

import sys
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image

from ..data.files import written_beside
from ..errors import UserError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool; what its user can put right ends it with one sentence and exit code 1."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")


def add_overrides(parser: ArgumentParser, of: str = "the YAML") -> None:
    """Let the command line end with keys and values: `opts`. `of` is what they override."""
    parser.add_argument(
        "opts",
        nargs=REMAINDER,
        metavar="KEY VALUE",
        help=f"keys that override {of}, such as MODEL.WEIGHTS model.pth",
    )


def positive_int(text: str) -> int:
    """A type for `argparse`: a whole number from 1."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is less than 1")
    return number


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
