"""Files that are there under another name than the JSON has."""

from collections import Counter
from pathlib import Path

from ..image_names import ImageNames
from ..problems import Problem, is_list_of_dicts


def with_names_on_disk(
    content: dict, image_root: str, panoptic_root: str, path: str
) -> tuple[dict, list[Problem]]:
    r"""The content of the JSON at `path` with the names that its files have.

    They differ in case or in the form of Unicode, have \ for /, or are those of another machine.

    Returns:
        The content, and a problem for each file that is found under another name.
    """
    problems: list[Problem] = []
    named = dict(content)
    for key, root in (("images", image_root), ("annotations", panoptic_root)):
        if is_list_of_dicts(content, key):
            named[key] = _found(content[key], ImageNames(Path(root)), path, problems)
    return named, problems


def _found(items: list[dict], files: ImageNames, path: str, problems: list[Problem]) -> list[dict]:
    names = {str(item["file_name"]) for item in items if isinstance(item.get("file_name"), str)}
    found = {name: files.find(name) for name in names}
    taken = Counter(found.values())
    result = []
    for item in items:
        name = item.get("file_name")
        file = found.get(name) if isinstance(name, str) else None
        # Two names may lead to one file, and then neither is it for certain.
        if file is None or file == name or taken[file] > 1:
            result.append(item)
            continue
        result.append({**item, "file_name": file})
        problems.append(
            Problem(
                "File names",
                f"{path}: {name} does not exist in {files.root}, and {file} is meant.",
                can_be_fixed=True,
            )
        )
    return result
