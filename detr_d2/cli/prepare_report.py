"""Writes a dataset, and shows what was written."""

import shlex
import sys
from pathlib import Path

from ..data import preparation
from ..data.depth import GreyLevels
from ..data.validation.statistics import table_of_classes
from ..engine.dataset_sheet import draw_dataset
from ..engine.tools import save_picture

_MOST_REMARKS = 20  # as of colours that are blurred


def write_and_show(
    source: preparation.Source,
    output: Path,
    name: str,
    workers: int,
    skip_bad: bool,
    levels: GreyLevels,
) -> None:
    """Write the dataset; say what was left out, count its classes, draw some images.

    Args:
        skip_bad: see `preparation.write_panoptic`.
        levels: of images of 16 bits that are drawn.
    """
    written = preparation.write_panoptic(source, output, name, workers, skip_bad)
    folder, json_file = preparation.panoptic_paths(output, name)
    for sentence in written.images_left_out:
        print(f"left out: {sentence}")
    remarks = sorted(written.remarks.items())
    for remark, count in remarks[:_MOST_REMARKS]:
        print(f"{count} {remark}.")
    if len(remarks) > _MOST_REMARKS:
        print(f"and {len(remarks) - _MOST_REMARKS} more of such lines.")
    for doubt in written.doubts:
        print(f"warning: {doubt}")
    content = written.content
    sizes = f"{len(content['images'])} images, {len(content['categories'])} classes"
    print(f"Wrote {sizes}: {json_file}\n\n{table_of_classes(content)}\n")
    _draw(content, (str(source.image_root), str(folder), str(json_file)), levels)
    print("Now check it:")
    roots = ("--image-root", source.image_root, "--panoptic-root", folder)
    command = (*_validate_command(), *roots, "--panoptic-json", json_file)
    for name, level in levels.options.items():
        command += (f"--{name}", level)
    print(f"  {shlex.join(map(str, command))}")


def _draw(content: dict, paths: tuple[str, str, str], levels: GreyLevels) -> None:
    picture, unread = draw_dataset(content, paths, levels=levels)
    for sentence in unread:
        print(f"warning: {sentence}")
    if picture is not None:
        file = Path(paths[2]).with_suffix(".jpg")
        save_picture(picture, file)
        print(f"Some images beside their segments, to look at: {file}")


def _validate_command() -> tuple[str, ...]:
    """As this one was called."""
    script = Path(sys.argv[0])
    tool = "python", str(script.with_name("validate_dataset.py"))
    return tool if script.suffix == ".py" else ("detr-d2", "validate")
