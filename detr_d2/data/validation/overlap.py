"""Images that are in a dataset twice, or in the training and the validation data both."""

from collections import defaultdict
from collections.abc import Iterator

from ..problems import Problem
from .inspection import Inspection


def repetition_problems(inspections: list[Inspection]) -> Iterator[Problem]:
    """Images of one dataset with equal pixels."""
    names = defaultdict(list)
    for inspection in inspections:
        if inspection.digest is not None:
            names[inspection.digest].append(inspection.image["file_name"])
    for equal in names.values():
        if len(equal) > 1:
            yield Problem(
                "Equal images",
                f"{' and '.join(equal)} have the same pixels: it counts {len(equal)} times.",
                wrong=False,
            )


def overlap_problems(
    inspections: list[Inspection], others: dict[str, str | None], other_json: str
) -> Iterator[Problem]:
    """Images that are in another dataset too.

    Args:
        others: the digest of each image of the other dataset, by file name.
        other_json: its JSON, for the words.
    """
    name_of = {digest: name for name, digest in others.items() if digest is not None}
    for inspection in inspections:
        name = inspection.image["file_name"]
        if inspection.digest in name_of:
            yield Problem(
                "Overlap",
                f"{name} has the pixels of {name_of[inspection.digest]} of {other_json}: leave it "
                "out of one of them.",
            )
        elif name in others:
            yield Problem(
                "Equal names",
                f"{name} is in {other_json} too, with other pixels.",
                wrong=False,
            )
