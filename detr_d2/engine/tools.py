"""What the command lines in tools/ share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..errors import UserError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a tool; what its user can put right ends it with one sentence and exit code 1."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG beside its place and move it there, so that no half picture is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)
