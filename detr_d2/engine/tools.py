"""What the command lines in tools/ share."""

import errno
import os
import sys
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from PIL import Image

from ..data.depth import ALL_GREY_LEVELS, GreyLevels
from ..data.files import written_beside
from ..errors import UserError

# What a person can put right: no permission, no room, a folder that may only be read.
_OF_THE_DISK = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool; what its user can put right ends it with one sentence and exit code 1."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # as of `| head`: who reads has gone, and is told nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        sys.exit(f"error: {error.filename or 'A file'}: {error.strerror}.")


def add_overrides(parser: ArgumentParser, of: str = "the YAML") -> None:
    """Let the command line end with keys and values, `opts`, and name modules, `imports`.

    Args:
        of: what the keys override.
    """
    add_imports(parser)
    parser.add_argument(
        "opts",
        nargs=REMAINDER,
        metavar="KEY VALUE",
        help=f"keys that override {of}, such as MODEL.WEIGHTS model.pth",
    )


def add_imports(parser: ArgumentParser) -> None:
    """Let the command line name modules of the user's: `imports`."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of your own, or a file NAME.py, that registers parts and may add keys; it "
        "is run first (docs/extending.md), and may be given several times",
    )


def overrides_of(args: Namespace) -> list[str]:
    """What `setup_cfg` takes, of the command line: `imports` and `opts`."""
    imports = ["IMPORTS", repr(args.imports)] if args.imports else []
    return [*imports, *args.opts]


def add_levels(parser: ArgumentParser) -> None:
    """Let the command line say which values are black and white in images of 16 bits."""
    for name, level in ALL_GREY_LEVELS._asdict().items():
        parser.add_argument(
            f"--{name}",
            type=int,
            default=level,
            metavar="VALUE",
            help=f"the value of {name} in images of 16 bits, as INPUT.{name.upper()} (default: "
            "%(default)s)",
        )


def levels_of(args: Namespace) -> GreyLevels:
    """What a command line says to `add_levels`."""
    return GreyLevels.checked(args.black, args.white)


def positive_int(text: str) -> int:
    """A type for `argparse`: a whole number from 1."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is less than 1")
    return number


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, or a JPEG where the name ends so."""
    with written_beside(path) as unfinished:
        picture.save(unfinished, format="JPEG" if path.suffix == ".jpg" else "PNG")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix, such as .png, .svg or .pdf."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in formats:
        raise UserError(f"{path} is no kind of picture: end its name with .png, .svg or .pdf.")
    with written_beside(path) as unfinished:
        figure.savefig(unfinished, dpi=120)
